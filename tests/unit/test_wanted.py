# SPDX-License-Identifier: Apache-2.0
"""The kernel state that the records call for."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network

import msgspec
import pytest

from dni_driver.core.endpoint_options import EndpointOptions
from dni_driver.core.options import NetworkOptions
from dni_driver.core.overlays import AgentSubnet
from dni_driver.core.records import EndpointRecord, NetworkRecord, Records
from dni_driver.core.wanted import Bridge, Wanted, wanted
from tests.fakes import DCOS, DUAL

HELD = [
    AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/24")),
    AgentSubnet(overlay="dual", subnet=ip_network("10.64.0.0/24")),
    AgentSubnet(overlay="dual", subnet=ip_network("fd01:b::/80")),
]

GATEWAY, GATEWAY6 = IPv4Interface("10.64.0.129/25"), IPv6Interface("fd01:b::8000:0:1/81")


def network(*, gateway6: IPv6Interface | None = None, internal: bool = False) -> NetworkRecord:
    options = NetworkOptions(masquerade=False, isolated=False, internal=internal)
    return NetworkRecord(
        id="n1", overlay="dual", options=options, mtu=1400, gateway=GATEWAY, gateway6=gateway6, name="web"
    )


def endpoint(*, address6: IPv6Interface | None = None, sandbox: str | None = "/run/netns/x") -> EndpointRecord:
    return EndpointRecord(
        id="0123456789abcdef",
        network="n1",
        mac="02:42:0a:40:00:82",
        address=IPv4Interface("10.64.0.130/25"),
        address6=address6,
        sandbox=sandbox,
        ifname="eth0" if sandbox else None,
    )


def state(
    networks: list[NetworkRecord],
    endpoints: list[EndpointRecord] | None = None,
    held: list[AgentSubnet] | None = None,
) -> Wanted:
    return wanted(
        Records(
            overlays=[DCOS, DUAL],
            agent_subnets=HELD if held is None else held,
            pools=[],
            addresses=[],
            networks=networks,
            endpoints=endpoints or [],
        )
    )


def test_without_networks_nothing_but_the_overlays_subnets_is_wanted() -> None:
    assert state([]) == Wanted(overlay_subnets=(*DCOS.subnets(), *DUAL.subnets()))


def test_each_network_has_a_bridge_with_its_gateway_and_mtu() -> None:
    assert state([network()]).bridges == (Bridge(name="d-dual", addresses=(GATEWAY,), mtu=1400),)


def test_a_bridge_speaks_ipv6_where_the_network_does() -> None:
    (bridge,) = state([network(gateway6=GATEWAY6)]).bridges
    assert bridge.addresses == (GATEWAY, GATEWAY6)


def test_a_further_half_puts_one_more_address_on_the_bridge() -> None:
    more = [*HELD, AgentSubnet(overlay="dual", subnet=ip_network("10.64.9.0/24"))]
    (bridge,) = state([network()], held=more).bridges
    assert bridge.addresses == (GATEWAY, ip_interface("10.64.9.129/25"))


def test_a_joined_endpoint_has_a_link_that_says_how_to_make_it_anew() -> None:
    (link,) = state([network()], [endpoint()]).links
    assert (link.host, link.container, link.bridge) == ("dni0123456789a", "dnc0123456789a", "d-dual")
    assert (link.mtu, link.mac, link.sandbox, link.ifname) == (1400, "02:42:0a:40:00:82", "/run/netns/x", "eth0")
    assert link.addresses == (IPv4Interface("10.64.0.130/25"),)
    assert link.gateways == ("10.64.0.129",)


def test_a_link_of_both_families_has_two_gateways() -> None:
    both = endpoint(address6=IPv6Interface("fd01:b::8000:0:2/81"))
    (link,) = state([network(gateway6=GATEWAY6)], [both]).links
    assert link.gateways == ("10.64.0.129", "fd01:b::8000:0:1")


def test_a_container_routes_the_whole_overlay_by_its_own_gateway() -> None:
    """On an internal network too, where there is no default route; and whichever network leads outside."""
    both = endpoint(address6=IPv6Interface("fd01:b::8000:0:2/81"))
    for internal in (False, True):
        (link,) = state([network(gateway6=GATEWAY6, internal=internal)], [both]).links
        assert [(str(route.subnet), route.gateway) for route in link.routes] == [
            ("10.64.0.0/16", "10.64.0.129"),
            ("fd01:b::/64", "fd01:b::8000:0:1"),
        ]


@pytest.mark.parametrize(
    ("of_network", "of_endpoint", "spoof", "guarded"),
    [
        (False, None, False, True),
        (False, True, True, True),
        (True, None, True, False),
        (True, False, False, True),
    ],
)
def test_a_container_may_spoof_as_its_endpoint_says_or_else_its_network(
    of_network: bool,  # noqa: FBT001
    of_endpoint: bool | None,  # noqa: FBT001
    spoof: bool,  # noqa: FBT001
    guarded: bool,  # noqa: FBT001
) -> None:
    """And senders are checked on this host where there is one to check."""
    where = msgspec.structs.replace(network(), options=NetworkOptions(spoof=of_network))
    who = msgspec.structs.replace(endpoint(), options=EndpointOptions(spoof=of_endpoint))
    there = state([where], [who])
    assert (there.links[0].spoof, there.guarded) == (spoof, guarded)


def test_a_host_without_networks_checks_nobody() -> None:
    assert not state([]).guarded


def test_an_endpoint_that_left_has_no_link() -> None:
    assert state([network()], [endpoint(sandbox=None)]).links == ()


def test_an_endpoint_whose_network_is_not_recorded_has_no_link() -> None:
    assert state([], [endpoint()]).links == ()


def test_nobody_leaves_an_internal_network() -> None:
    (link,) = state([network(internal=True)], [endpoint()]).links
    assert link.gateways == ()


def test_a_policy_covers_both_bridges_and_all_subnets_of_the_overlay() -> None:
    (policy,) = state([network(internal=True)]).policies
    assert (policy.overlay, policy.bridges) == ("dual", ("d-dual", "m-dual"))
    assert policy.subnets == tuple(DUAL.subnets())
    assert (policy.masquerade, policy.isolated, policy.internal) == (False, False, True)
