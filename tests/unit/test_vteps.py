# SPDX-License-Identifier: Apache-2.0
"""The subnet that VTEPs come from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_network

import pytest

from dni_driver.core.data_plane.vteps import check_subnet, check_widening, chosen, exhausted, kept, lowest_free
from dni_driver.core.errors import Exhausted, InUse, Refused
from dni_driver.core.overlays import VTEP_SUBNET, define
from dni_driver.core.peers import Vtep

DCOS = define("dcos", [ip_network("9.0.0.0/8")])


def test_vteps_are_handed_out_lowest_first() -> None:
    assert str(lowest_free([], VTEP_SUBNET).ip) == "44.128.0.1/20"
    taken = [IPv4Address("44.128.0.1"), IPv4Address("44.128.0.3")]
    assert str(lowest_free(taken, VTEP_SUBNET).ip) == "44.128.0.2/20"


@pytest.mark.parametrize(
    ("subnet", "wider"),
    [
        ("44.128.0.0/20", "44.128.0.0/16"),
        ("44.128.0.0/10", "44.128.0.0/9"),
        ("10.96.0.0/12", "10.96.0.0/11"),
        ("44.0.0.0/10", "44.0.0.0/8"),
    ],
)
def test_a_full_subnet_says_what_makes_room(subnet: str, wider: str) -> None:
    assert f'overlay.vtep_subnet = "{wider}" makes room' in str(exhausted(IPv4Network(subnet)))


def test_when_all_are_held_nobody_gets_one() -> None:
    small = IPv4Network("44.128.0.0/30")
    with pytest.raises(Exhausted, match="gives up one that is gone; overlay"):
        lowest_free(small.hosts(), small)


def test_a_subnet_that_cannot_be_wider_says_what_else_to_do() -> None:
    for subnet in ("44.128.0.0/9", "44.0.0.0/8", "10.0.0.16/28"):
        assert str(exhausted(IPv4Network(subnet))).endswith("gives up one that is gone")


def test_a_registry_that_was_lost_gets_the_subnet_that_its_agents_had() -> None:
    had = Vtep(IPv4Interface("10.96.0.7/12"))
    assert chosen(None, None) == VTEP_SUBNET
    assert chosen(None, had) == IPv4Network("10.96.0.0/12")
    assert chosen(IPv4Network("10.0.0.0/12"), had) == IPv4Network("10.0.0.0/12")


def test_an_agent_keeps_its_vtep_where_that_is_one_of_all() -> None:
    had = Vtep(IPv4Interface("44.128.0.7/20"))
    assert kept(had, IPv4Network("44.128.0.0/16")) == Vtep(IPv4Interface("44.128.0.7/16"))
    assert kept(had, IPv4Network("10.96.0.0/12")) is None
    assert kept(None, VTEP_SUBNET) is None


@pytest.mark.parametrize("wanted", ["44.128.0.0/24", "44.0.0.0/8", "10.96.0.0/12", "44.128.16.0/20"])
def test_vteps_come_from_no_other_subnet_than_a_wider_one_with_the_same_beginning(wanted: str) -> None:
    with pytest.raises(Refused, match=r"say 44\.128\.0\.0/20; a wider one that begins at 44\.128\.0\.0 would be"):
        check_widening(VTEP_SUBNET, IPv4Network(wanted), [DCOS])
    check_widening(VTEP_SUBNET, IPv4Network("44.128.0.0/9"), [DCOS])


def test_an_overlay_among_the_vteps_is_named() -> None:
    other = define("dev", [ip_network("44.128.64.0/20")])
    with pytest.raises(InUse, match=r"overlay 'dev' cannot have 44\.128\.64\.0/20 while"):
        check_widening(VTEP_SUBNET, IPv4Network("44.128.0.0/16"), [DCOS, other])
    check_widening(VTEP_SUBNET, IPv4Network("44.128.0.0/19"), [DCOS, other])


@pytest.mark.parametrize("wanted", ["44.0.0.0/7", "44.128.0.0/31", "127.0.0.0/16", "224.0.0.0/8", "9.0.0.0/20"])
def test_what_cannot_be_a_subnet_of_vteps_is_refused(wanted: str) -> None:
    with pytest.raises(Refused):
        check_subnet(IPv4Network(wanted, strict=False), DCOS)
    check_subnet(IPv4Network("44.128.0.0/8", strict=False), DCOS)
    check_subnet(None, DCOS)
