# SPDX-License-Identifier: Apache-2.0
"""Which path leads to which agent, and what the kernel has to know for it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network, ip_interface, ip_network

import msgspec
import pytest

from dni_driver.core.data_plane.paths import Path, Situation, entries, left_out, path, problems, rules
from dni_driver.core.mtu import Underlay
from dni_driver.core.overlays import Address, AgentSubnet, Backend, Family, Overlay, define
from dni_driver.core.peers import Peer, Vtep

UNDERLAY = Underlay(link="eth0", mtu=1500, networks=(IPv4Network("10.0.0.0/24"),))
NEAR, FAR = IPv4Address("10.0.0.2"), IPv4Address("10.0.1.2")
UNDERLAY6 = Underlay(link="eth0", mtu=1500, networks=(IPv6Network("fd00::/64"),), local=IPv6Address("fd00::1"))
NEAR6, FAR6 = IPv6Address("fd00::2"), IPv6Address("fd00:1::2")
DUAL = (("dcos", "9.0.2.0/24"), ("dcos", "fd01:b:0:0:2::/80"))


def overlay(name: str, *subnets: str, backend: Backend = "vxlan") -> Overlay:
    return define(name, [ip_network(subnet) for subnet in subnets], backend=backend)


def situation(*overlays: Overlay) -> Situation:
    return Situation(vtep=Vtep(IPv4Interface("44.128.0.1/20")), overlays=overlays, underlay=UNDERLAY)


def peer(agent: Address, *subnets: tuple[str, str]) -> Peer:
    held = tuple(AgentSubnet(overlay=name, subnet=ip_network(subnet)) for name, subnet in subnets)
    return Peer(agent_ip=agent, vtep=Vtep(IPv4Interface("44.128.0.2/20")), subnets=held)


@pytest.mark.parametrize(
    ("backend", "family", "near", "expected"),
    [
        ("vxlan", 4, True, "vxlan"),
        ("vxlan", 4, False, "vxlan"),
        ("direct", 4, True, "direct"),
        ("direct", 4, False, "none"),
        ("auto", 4, True, "direct"),
        ("auto", 4, False, "vxlan"),
        ("direct", 6, True, "vxlan"),
        ("direct", 6, False, "vxlan"),
        ("auto", 6, True, "vxlan"),
    ],
)
def test_the_path_follows_from_backend_family_and_link(
    backend: Backend,
    family: Family,
    near: bool,  # noqa: FBT001
    expected: Path,
) -> None:
    assert path(backend, family, near=near) == expected


def test_by_vxlan_all_is_as_dcos_net_has_it() -> None:
    dual = overlay("dcos", "9.0.0.0/8", "fd01:b::/64")
    far = peer(FAR, ("dcos", "9.0.2.0/24"), ("dcos", "fd01:b:0:0:2::/80"))
    assert entries(far, situation(dual)) == {
        ("neighbour", "44.128.0.2"): "70:b3:d5:80:00:02",
        ("neighbour", "fd01:a::2"): "70:b3:d5:80:00:02",
        ("forwarding", "70:b3:d5:80:00:02"): "10.0.1.2",
        ("agent route", "10.0.1.2"): "via 44.128.0.2 dev vtep1024",
        ("route", "9.0.2.0/24"): "via 44.128.0.2 dev vtep1024",
        ("route", "fd01:b:0:0:2::/80"): "via fd01:a::2 dev vtep1024",
    }


def test_directly_the_way_leads_over_the_agents_own_address() -> None:
    direct = overlay("dcos", "9.0.0.0/8", backend="direct")
    assert entries(peer(NEAR, ("dcos", "9.0.2.0/24")), situation(direct)) == {
        ("neighbour", "44.128.0.2"): "70:b3:d5:80:00:02",
        ("forwarding", "70:b3:d5:80:00:02"): "10.0.0.2",
        ("guest agent", "10.0.0.2"): "",
        ("guest subnet", "9.0.2.0"): "",
        ("route", "9.0.2.0/24"): "via 10.0.0.2 dev eth0",
    }


def test_an_agent_on_the_link_is_a_guest_whatever_the_backend() -> None:
    """It may have heard of another backend already."""
    found = entries(peer(NEAR, ("dcos", "9.0.2.0/24")), situation(overlay("dcos", "9.0.0.0/8")))
    assert {("guest agent", "10.0.0.2"), ("guest subnet", "9.0.2.0")} <= found.keys()


def test_what_no_path_leads_to_is_unreachable_and_does_not_leave_by_the_default_route() -> None:
    direct = overlay("dcos", "9.0.0.0/8", backend="direct")
    found = entries(peer(FAR, ("dcos", "9.0.2.0/24")), situation(direct))
    assert found["route", "9.0.2.0/24"] == "unreachable"


def test_subnets_of_overlays_that_are_not_known_are_left_out() -> None:
    found = entries(peer(NEAR, ("gone", "9.0.2.0/24")), situation(overlay("dcos", "10.64.0.0/16")))
    assert not any(kind == "route" for kind, _ in found)


def test_a_host_without_ipv6_knows_none() -> None:
    four = msgspec.structs.replace(situation(overlay("dcos", "9.0.0.0/8", "fd01:b::/64")), ipv6=False)
    found = entries(peer(FAR, ("dcos", "9.0.2.0/24"), ("dcos", "fd01:b:0:0:2::/80")), four)
    assert not any(":" in of for kind, of in found if kind != "forwarding")
    assert four.device.addresses == (ip_interface("44.128.0.1/20"),)


@pytest.mark.parametrize("near", [True, False])
def test_a_vtep_too_small_for_ipv6_carries_ipv4_and_nothing_leaves_by_the_default_route(near: bool) -> None:  # noqa: FBT001
    narrow, wide = (
        msgspec.structs.replace(
            situation(overlay("dcos", "9.0.0.0/8", "fd01:b::/64", backend="auto")),
            underlay=msgspec.structs.replace(UNDERLAY, mtu=mtu),
        )
        for mtu in (1329, 1330)
    )
    found = entries(peer(NEAR if near else FAR, *DUAL), narrow)
    assert found["route", "9.0.2.0/24"] == ("via 10.0.0.2 dev eth0" if near else "via 44.128.0.2 dev vtep1024")
    assert found["route", "fd01:b:0:0:2::/80"] == "unreachable"
    assert [of for kind, of in found if kind == "neighbour"] == ["44.128.0.2"]
    assert narrow.device.addresses == (ip_interface("44.128.0.1/20"),)
    assert wide.has_ipv6


def test_containers_find_agents_in_table_42_where_their_overlay_is_tunnelled() -> None:
    overlays = (
        overlay("one", "10.1.0.0/16"),
        overlay("two", "10.2.0.0/16", backend="direct"),
        overlay("three", "10.3.0.0/16", backend="auto"),
        overlay("four", "fd01:b::/64"),
    )
    assert rules(overlays) == {("rule", "10.1.0.0/16"): "lookup 42", ("rule", "10.3.0.0/16"): "lookup 42"}


def test_what_shares_addresses_with_the_underlay_is_led_nowhere_and_told() -> None:
    """Hosts whose own addresses are an overlay's: the way to them all must not lead to one of them."""
    wide = overlay("dcos", "10.0.0.0/8", "fd01:b::/64", backend="auto")
    held = (("dcos", "10.0.0.0/25"), ("dcos", "10.0.2.0/24"), ("dcos", "fd01:b:0:0:2::/80"))
    found = entries(peer(FAR, *held), situation(wide))
    assert [of for kind, of in found if kind == "route"] == ["10.0.2.0/24", "fd01:b:0:0:2::/80"]
    ((about, problem),) = left_out([wide], [peer(FAR, *held)], UNDERLAY)
    assert (about, problem.partition(":")[0]) == (
        "overlay dcos",
        "agent subnet 10.0.0.0/25 shares addresses with 10.0.0.0/24, this host's own network on eth0",
    )
    assert list(left_out([wide], [peer(FAR, *held[1:])], UNDERLAY)) == []


def test_the_vtep_has_the_mtu_that_the_underlay_leaves_it() -> None:
    four = situation(overlay("dcos", "9.0.0.0/8")).device
    assert (four.mac, four.mtu, four.addresses) == ("70:b3:d5:80:00:01", 1450, (ip_interface("44.128.0.1/20"),))
    six = situation(overlay("dcos6", "fd01:b::/64")).device
    assert six.addresses == (ip_interface("44.128.0.1/20"), ip_interface("fd01:a::1/64"))


def test_direct_says_whom_it_does_not_reach() -> None:
    direct = overlay("dcos", "9.0.0.0/8", backend="direct")
    far = [peer(FAR, ("dcos", "9.0.2.0/24")), peer(FAR + 1, ("dcos", "9.0.3.0/24"))]
    ((about, problem),) = problems([direct], [peer(NEAR, ("dcos", "9.0.4.0/24")), *far], UNDERLAY)
    assert about == "overlay dcos"
    assert problem == "backend direct does not reach agent 10.0.1.2 and 1 more, behind a router: auto would, by VXLAN"


def test_the_other_backends_reach_everybody() -> None:
    auto, dual = overlay("one", "9.0.0.0/8", backend="auto"), overlay("two", "fd01:b::/64", backend="direct")
    far = peer(FAR, ("one", "9.0.2.0/24"), ("two", "fd01:b:0:0:2::/80"))
    assert list(problems([auto, dual], [far], UNDERLAY)) == []


def six(*overlays: Overlay) -> Situation:
    """Answer where an agent stands whose agent IP is an IPv6 address."""
    return msgspec.structs.replace(situation(*overlays), underlay=UNDERLAY6)


def dual(backend: Backend = "vxlan") -> Overlay:
    return overlay("dcos", "9.0.0.0/8", "fd01:b::/64", backend=backend)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("backend", "near", "expected"),
    [
        ("vxlan", True, "vxlan"),
        ("direct", True, "direct"),
        ("direct", False, "none"),
        ("auto", True, "direct"),
        ("auto", False, "vxlan"),
    ],
)
def test_over_ipv6_both_families_have_a_next_hop(
    backend: Backend,
    near: bool,  # noqa: FBT001
    expected: Path,
    family: Family,
) -> None:
    assert path(backend, family, near=near, over=6) == expected


def test_over_ipv6_vxlan_leads_to_an_ipv6_address_and_agents_are_found_by_it() -> None:
    assert entries(peer(FAR6, *DUAL), six(dual())) == {
        ("neighbour", "44.128.0.2"): "70:b3:d5:80:00:02",
        ("neighbour", "fd01:a::2"): "70:b3:d5:80:00:02",
        ("forwarding", "70:b3:d5:80:00:02"): "fd00:1::2",
        ("agent route", "fd00:1::2"): "via fd01:a::2 dev vtep1024",
        ("route", "9.0.2.0/24"): "via 44.128.0.2 dev vtep1024",
        ("route", "fd01:b:0:0:2::/80"): "via fd01:a::2 dev vtep1024",
    }


def test_over_ipv6_a_direct_way_says_which_address_this_host_sends_from() -> None:
    """Its IPv4 comes from its VTEP's address, which is the one that all agents know."""
    assert entries(peer(NEAR6, *DUAL), six(dual("direct"))) == {
        ("neighbour", "44.128.0.2"): "70:b3:d5:80:00:02",
        ("neighbour", "fd01:a::2"): "70:b3:d5:80:00:02",
        ("forwarding", "70:b3:d5:80:00:02"): "fd00::2",
        ("guest agent", "fd00::2"): "",
        ("guest agent", "44.128.0.2"): "",
        ("guest subnet", "9.0.2.0"): "",
        ("guest subnet", "fd01:b:0:0:2::"): "",
        ("route", "9.0.2.0/24"): "via inet6 fd00::2 dev eth0 src 44.128.0.1",
        ("route", "fd01:b:0:0:2::/80"): "via fd00::2 dev eth0 src fd00::1",
    }


def test_over_ipv6_an_overlay_of_ipv4_alone_leaves_no_way_to_the_agents_addresses() -> None:
    four = overlay("dcos", "9.0.0.0/8")
    assert ("agent route", "fd00:1::2") not in entries(peer(FAR6, ("dcos", "9.0.2.0/24")), six(four))
    assert rules((four, overlay("six", "fd01:b::/64")), 6) == {("rule", "fd01:b::/64"): "lookup 42"}


def test_an_overlay_that_is_a_part_of_a_wide_link_is_led_to() -> None:
    """Hosts that have, say, 10.0.0.0/8 on their link may keep 10.64.0.0/16 of it for containers."""
    part = overlay("dcos", "10.64.0.0/16", backend="auto")
    held = peer(FAR, ("dcos", "10.64.2.0/24"))
    wide = msgspec.structs.replace(UNDERLAY, networks=(ip_network("10.0.0.0/8"),))
    found = entries(held, msgspec.structs.replace(situation(part), underlay=wide))
    assert ("route", "10.64.2.0/24") in found
    assert list(left_out([part], [held], wide)) == []


def test_over_ipv6_a_vtep_too_small_for_ipv6_is_no_way_to_the_agents_addresses() -> None:
    narrow = msgspec.structs.replace(six(dual("auto")), underlay=msgspec.structs.replace(UNDERLAY6, mtu=1349))
    assert entries(peer(FAR6, *DUAL), narrow) == {
        ("neighbour", "44.128.0.2"): "70:b3:d5:80:00:02",
        ("forwarding", "70:b3:d5:80:00:02"): "fd00:1::2",
        ("route", "9.0.2.0/24"): "via 44.128.0.2 dev vtep1024",
        ("route", "fd01:b:0:0:2::/80"): "unreachable",
    }
    assert entries(peer(NEAR6, *DUAL), narrow)["route", "fd01:b:0:0:2::/80"] == "via fd00::2 dev eth0 src fd00::1"


def test_over_ipv6_the_vtep_sends_from_the_agent_ip_and_has_twenty_bytes_less() -> None:
    device = six(dual()).device
    assert (device.local, device.mtu) == (IPv6Address("fd00::1"), 1430)


def test_over_ipv6_direct_reaches_nobody_behind_a_router_with_either_family() -> None:
    only6 = overlay("dcos6", "fd01:b::/64", backend="direct")
    ((about, problem),) = problems([only6], [peer(FAR6, ("dcos6", "fd01:b:0:0:2::/80"))], UNDERLAY6)
    assert (about, problem.partition(":")[0]) == ("overlay dcos6", "backend direct does not reach agent fd00")
    assert list(problems([only6], [peer(NEAR6, ("dcos6", "fd01:b:0:0:2::/80"))], UNDERLAY6)) == []


def test_to_an_agent_of_the_other_family_nothing_leads_and_nothing_leaves_by_the_default_route() -> None:
    unreachable = {("route", "9.0.2.0/24"): "unreachable", ("route", "fd01:b:0:0:2::/80"): "unreachable"}
    assert entries(peer(FAR6, *DUAL), situation(dual("auto"))) == unreachable
    assert entries(peer(NEAR, *DUAL), six(dual("auto"))) == unreachable
