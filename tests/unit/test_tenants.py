# SPDX-License-Identifier: Apache-2.0
"""Addresses behind links that are gone."""

from __future__ import annotations

from ipaddress import ip_address

from dni_driver.kernel.containers.tenants import Tenants
from tests.unit.test_guard import link

ONE, OTHER = link("1", "9.0.0.130/25", "fd01:b::2/81"), link("2", "9.0.0.131/25")
ADDRESSES = {ip_address("9.0.0.130"), ip_address("fd01:b::2")}


def test_a_link_that_is_gone_is_asked_for_its_addresses_once() -> None:
    tenants = Tenants()
    tenants.note([ONE, OTHER])
    assert tenants.take([ONE.host, "dni00000000000"]) == ADDRESSES
    assert tenants.take([ONE.host]) == set()


def test_what_somebody_else_has_by_now_is_left_alone() -> None:
    tenants = Tenants()
    tenants.note([ONE, link("3", "9.0.0.130/25")])
    assert tenants.take([ONE.host]) == {ip_address("fd01:b::2")}


def test_addresses_outlive_their_records_for_a_while_and_not_for_ever() -> None:
    tenants = Tenants()
    tenants.follow([ONE, OTHER])
    tenants.follow([OTHER])
    assert tenants.take([ONE.host]) == ADDRESSES
    tenants.note([ONE])
    tenants.follow([OTHER])
    tenants.follow([OTHER])
    assert tenants.take([ONE.host]) == set()
