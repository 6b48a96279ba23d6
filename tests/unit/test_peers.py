# SPDX-License-Identifier: Apache-2.0
"""The addresses of VTEPs."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from dni_driver.core.errors import Exhausted
from dni_driver.core.peers import Vtep, lowest_free_vtep


@pytest.mark.parametrize(
    ("address", "mac"),
    [("44.128.0.1", "70:b3:d5:80:00:01"), ("44.128.1.0", "70:b3:d5:80:01:00"), ("198.15.0.1", "70:b3:d5:0f:00:01")],
)
def test_the_mac_is_dcos_prefix_and_the_low_bits_of_the_address(address: str, mac: str) -> None:
    assert Vtep(IPv4Interface(f"{address}/20")).mac == mac


def test_the_ipv6_address_has_the_place_of_the_ipv4_one() -> None:
    assert str(Vtep(IPv4Interface("44.128.0.2/20")).ip6) == "fd01:a::2/64"


def test_vtep_addresses_are_handed_out_lowest_first() -> None:
    assert str(lowest_free_vtep([]).ip) == "44.128.0.1/20"
    assert str(lowest_free_vtep([IPv4Address("44.128.0.1"), IPv4Address("44.128.0.3")]).ip) == "44.128.0.2/20"


def test_a_full_subnet_of_vteps_says_what_to_do() -> None:
    subnet = IPv4Network("44.128.0.0/30")
    with pytest.raises(Exhausted, match="dni agent forget"):
        lowest_free_vtep(subnet.hosts(), subnet)
