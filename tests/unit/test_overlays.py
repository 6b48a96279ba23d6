# SPDX-License-Identifier: Apache-2.0
"""Overlays, agent subnets and their halves: the arithmetic of both families."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.errors import BadName, Exhausted, InUse, Refused
from dni_driver.core.overlays import (
    AgentSubnet,
    Family,
    Network,
    Overlay,
    agent_subnet,
    check_no_overlap,
    define,
    family_of,
    gateway_of,
    last_host,
    lowest_free,
)
from dni_driver.registry.interface import agree
from tests.fakes import DCOS, DUAL
from tests.strategies import agent_subnets, families, overlay_names, overlays, subnets
from tests.unit.refusals import refusal


def test_an_agent_subnet_is_cut_into_a_mesos_half_and_a_docker_half() -> None:
    held = AgentSubnet(overlay="dcos", subnet=IPv4Network("9.0.2.0/24"))
    assert (held.mesos_half, held.docker_half) == (IPv4Network("9.0.2.0/25"), IPv4Network("9.0.2.128/25"))
    assert gateway_of(held.mesos_half) == ip_address("9.0.2.1")
    assert gateway_of(held.docker_half) == ip_address("9.0.2.129")
    assert last_host(held.docker_half) == ip_address("9.0.2.254")


def test_an_ipv6_agent_subnet_is_cut_likewise() -> None:
    held = AgentSubnet(overlay="dual", subnet=IPv6Network("fd01:b:0:0:2::/80"))
    assert held.docker_half == IPv6Network("fd01:b::2:8000:0:0/81")
    assert gateway_of(held.docker_half) == ip_address("fd01:b::2:8000:0:1")
    assert last_host(held.docker_half) == ip_address("fd01:b::2:ffff:ffff:ffff")


@given(agent_subnets)
def test_the_halves_share_nothing_and_are_the_whole(held: AgentSubnet) -> None:
    assert not held.mesos_half.overlaps(held.docker_half)
    assert held.mesos_half.num_addresses + held.docker_half.num_addresses == held.subnet.num_addresses
    assert held.mesos_half.network_address == held.subnet.network_address
    assert held.docker_half.broadcast_address == held.subnet.broadcast_address
    assert held.family == family_of(held.docker_half) == family_of(held.mesos_half)


@given(agent_subnets)
def test_each_half_has_a_gateway_and_room_for_a_container(held: AgentSubnet) -> None:
    for half in (held.mesos_half, held.docker_half):
        assert int(half.network_address) < int(gateway_of(half)) < int(last_host(half))
        assert last_host(half) in half


@given(overlay_names, st.sampled_from([IPv4Network("9.0.0.0/8"), IPv4Network("10.0.0.0/24")]))
def test_a_missing_ipv4_prefix_is_24(name: str, subnet: IPv4Network) -> None:
    assert define(name, [subnet]).space(4) == (subnet, 24)


def test_a_missing_ipv6_prefix_is_80() -> None:
    subnet = IPv6Network("fd01:b::/64")
    assert define("dev", [subnet]).space(6) == (subnet, 80)
    assert define("dev", [subnet]).space(4) is None


@pytest.mark.parametrize("subnet", ["10.0.0.0/25", "10.0.0.0/29", "fd01::/81", "fd01::/125"])
def test_a_subnet_longer_than_the_usual_prefix_goes_to_one_agent_whole(subnet: str) -> None:
    network = ip_network(subnet)
    assert define("dev", [network]).space(family_of(network)) == (network, network.prefixlen)


def test_an_overlay_can_have_both_families_in_any_order() -> None:
    four, six = IPv4Network("10.64.0.0/16"), IPv6Network("fd01:b::/64")
    overlay = define("dev", [six, four], (26, 96), "direct")
    assert (overlay.space(4), overlay.space(6), overlay.backend) == ((four, 26), (six, 96), "direct")
    assert overlay.subnets() == [four, six]


@pytest.mark.parametrize(
    ("subnets", "prefixes", "reason"),
    [
        ([], (None, None), "needs a subnet"),
        (["10.0.0.0/16", "10.1.0.0/16"], (None, None), "not two of a kind"),
        (["10.0.0.0/16"], (15, None), "prefix must be 16 to 29"),
        (["10.0.0.0/16"], (30, None), "prefix must be 16 to 29"),
        (["10.0.0.0/30"], (None, None), "10.0.0.0/30 is too small: it must be a /29 or larger$"),
        (["10.0.0.0"], (None, None), r"a /29 or larger \(without a mask behind it, as in 10\.64\.0\.0/16, it is"),
        (["fd00::/64"], (None, 126), "prefix must be 64 to 125"),
    ],
)
def test_what_cannot_be_cut_into_halves_is_no_overlay(
    subnets: list[str], prefixes: tuple[int | None, int | None], reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        define("dev", map(ip_network, subnets), prefixes)


def test_a_bad_name_is_no_overlay() -> None:
    with pytest.raises(BadName):
        define("a.b", [IPv4Network("10.0.0.0/16")])


@given(overlays())
def test_an_overlay_never_overlaps_a_list_without_it(overlay: Overlay) -> None:
    check_no_overlap(overlay, [])
    with pytest.raises(InUse, match=overlay.name):
        check_no_overlap(overlay, [overlay])


def _is_usable(subnet: Network) -> bool:
    return refusal(lambda: define("any", [subnet], (subnet.prefixlen, subnet.prefixlen))) is None


two_usable = families.flatmap(
    lambda family: st.tuples(subnets(family).filter(_is_usable), subnets(family).filter(_is_usable))
)


@given(two_usable)
def test_two_overlays_overlap_where_one_contains_the_other(both: tuple[Network, Network]) -> None:
    one, other = both
    contained = one.network_address in other or other.network_address in one
    text = refusal(lambda: check_no_overlap(define("one", [one]), [define("other", [other])]))
    assert (text is not None) == contained


def test_families_do_not_overlap_each_other() -> None:
    check_no_overlap(define("six", [IPv6Network("800::/8")]), [define("four", [IPv4Network("8.0.0.0/8")])])


def test_agent_subnets_are_leased_lowest_first_and_none_is_reserved() -> None:
    assert lowest_free(DCOS, 4, []) == IPv4Network("9.0.0.0/24")
    assert lowest_free(DCOS, 4, [IPv4Network("9.0.0.0/24"), IPv4Network("9.0.2.0/24")]) == IPv4Network("9.0.1.0/24")
    assert lowest_free(DUAL, 6, [IPv6Network("fd01:b::/80")]) == IPv6Network("fd01:b:0:0:1::/80")


@given(families, st.integers(0, 5), st.data())
def test_leasing_gives_each_agent_subnet_once_in_order(family: Family, bits: int, data: st.DataObject) -> None:
    longest = 24
    whole = data.draw(subnets(family, longest=longest).filter(_is_usable))
    overlay = define("dev", [whole], (whole.prefixlen + bits, whole.prefixlen + bits))
    taken: list[Network] = []
    for _ in range(1 << bits):
        taken.append(lowest_free(overlay, family, taken))
    assert taken == sorted(set(taken))
    assert all(subnet.subnet_of(whole) for subnet in taken)  # type: ignore[arg-type]  # one family
    with pytest.raises(Exhausted, match=r"is full: (all|its one) .* held; `dni agent ls`"):
        lowest_free(overlay, family, taken)


@given(st.sets(st.integers(0, 15)))
def test_the_lowest_hole_is_leased(held: set[int]) -> None:
    overlay = define("dev", [IPv4Network("10.0.0.0/20")])
    taken = [IPv4Network(f"10.0.{number}.0/24") for number in held]
    holes = sorted(set(range(16)) - held)
    if holes:
        assert lowest_free(overlay, 4, taken) == IPv4Network(f"10.0.{holes[0]}.0/24")
    else:
        with pytest.raises(Exhausted):
            lowest_free(overlay, 4, taken)


def test_a_family_that_the_overlay_does_not_speak_cannot_be_leased() -> None:
    with pytest.raises(Refused, match="no IPv6 subnet"):
        lowest_free(DCOS, 6, [])


@pytest.mark.parametrize(
    "subnet",
    ["0.0.0.0/0", "127.0.0.0/16", "169.254.0.0/17", "224.0.0.0/8", "fe80::/64", "ff00::/16"],
)
def test_no_overlay_is_made_of_addresses_that_no_container_can_have(subnet: str) -> None:
    with pytest.raises(Refused, match="overlaps"):
        define("dev", [ip_network(subnet)])


@given(families, st.integers(0, 255))
def test_agent_subnets_are_counted_from_the_lowest(family: Family, number: int) -> None:
    taken = [agent_subnet(DUAL, family, before) for before in range(number)]
    assert agent_subnet(DUAL, family, number) == lowest_free(DUAL, family, taken)


def test_two_definitions_mean_the_same_where_neither_has_more_than_the_other() -> None:
    narrow = msgspec.structs.replace(DUAL, subnet6=None, prefix6=None)
    assert agree(DUAL, msgspec.structs.replace(DUAL))
    assert not agree(DUAL, narrow)
    assert not agree(narrow, DUAL)
    assert not agree(DUAL, msgspec.structs.replace(DUAL, backend="direct"))
    assert not agree(DUAL, msgspec.structs.replace(DUAL, prefix=25))
