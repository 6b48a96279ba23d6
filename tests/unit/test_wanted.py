# SPDX-License-Identifier: Apache-2.0
"""The kernel state that the records call for."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, ip_interface, ip_network

import msgspec
import pytest

from dni_driver.core.local_subnets import LocalSubnet
from dni_driver.core.options.bandwidth import UNLIMITED, Limits
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import AgentSubnet
from dni_driver.core.ports import HostPort, PortRecord, Protocol, Published
from dni_driver.core.records import EndpointRecord, NetworkRecord, Records
from dni_driver.core.wanted import Bridge, Wanted, wanted
from tests.fakes import DCOS, DUAL, SIX

HELD = [
    AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/24")),
    AgentSubnet(overlay="dual", subnet=ip_network("10.64.0.0/24")),
    AgentSubnet(overlay="dual", subnet=ip_network("fd01:b::/80")),
    AgentSubnet(overlay="six", subnet=ip_network("fd06::/80")),
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
    local: list[LocalSubnet] | None = None,
) -> Wanted:
    return wanted(
        Records(
            overlays=[DCOS, DUAL, SIX],
            agent_subnets=HELD if held is None else held,
            pools=[],
            addresses=[],
            networks=networks,
            endpoints=endpoints or [],
            local_subnets=local or [],
        )
    )


def test_a_link_is_held_to_its_own_limits_and_to_its_networks_where_it_has_none() -> None:
    general = NetworkOptions(egress=5_000_000, ingress=6_000_000)
    shared = msgspec.structs.replace(network(), options=general)
    own = msgspec.structs.replace(endpoint(), options=EndpointOptions(egress=10_000_000))
    lifted = msgspec.structs.replace(endpoint(), options=EndpointOptions(egress=UNLIMITED, ingress=UNLIMITED))
    assert [link.limits for link in state([shared], [endpoint()]).links] == [
        Limits(egress=5_000_000, ingress=6_000_000)
    ]
    assert [link.limits for link in state([shared], [own]).links] == [Limits(egress=10_000_000, ingress=6_000_000)]
    assert [link.limits for link in state([shared], [lifted]).links] == [Limits()]
    assert [link.limits for link in state([network()], [endpoint()]).links] == [Limits()]


def test_without_networks_nothing_but_the_overlays_subnets_is_wanted() -> None:
    assert state([]) == Wanted(
        overlay_subnets=(*DCOS.subnets(), *DUAL.subnets(), *SIX.subnets()), overlays=(DCOS, DUAL, SIX)
    )


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


LOCAL = IPv4Network("198.18.0.0/20")
SIX_GATEWAY, SIX_GATEWAY6 = IPv4Interface("198.18.0.1/20"), IPv6Interface("fd06::8000:0:1/81")


def six(gateway: IPv4Interface | None) -> Wanted:
    """Answer what an IPv6-only overlay wants that has a local subnet, on an engine that asked for IPv4 or did not."""
    record = NetworkRecord(
        id="n6", overlay="six", options=NetworkOptions(), mtu=1400, gateway=gateway, gateway6=SIX_GATEWAY6
    )
    plugged = EndpointRecord(
        id="0123456789abcdef",
        network="n6",
        mac="02:42:c6:12:00:02",
        address=IPv4Interface("198.18.0.2/20") if gateway else None,
        address6=IPv6Interface("fd06::8000:0:2/81"),
        sandbox="/run/netns/x",
    )
    return state([record], [plugged], local=[LocalSubnet(overlay="six", subnet=LOCAL)])


def test_an_ipv6_only_overlay_has_its_local_subnet_beside_it() -> None:
    found = six(SIX_GATEWAY)
    assert found.bridges[0].addresses == (SIX_GATEWAY, SIX_GATEWAY6)
    assert found.links[0].gateways == ("198.18.0.1", "fd06::8000:0:1")
    assert (found.policies[0].local, found.policies[0].families()) == ((LOCAL,), {4, 6})
    assert LOCAL not in found.overlay_subnets


def test_without_ipv4_on_the_network_the_local_subnet_is_nowhere() -> None:
    found = six(None)
    assert found.bridges[0].addresses == (SIX_GATEWAY6,)
    assert found.links[0].gateways == ("fd06::8000:0:1",)
    assert (found.policies[0].local, found.policies[0].families()) == ((), {6})


PORT = PortRecord(at=HostPort(Protocol.TCP, IPv4Address(0), 8080), endpoint="0123456789abcdef", port=80)
PORT6 = msgspec.structs.replace(PORT, at=HostPort(Protocol.TCP, IPv6Address("::"), 8080))


def published(*records: PortRecord, internal: bool = False, **of_endpoint: object) -> list[Published]:
    one = msgspec.structs.replace(endpoint(address6=IPv6Interface("fd01:b::8000:0:2/81")), **of_endpoint)
    two = msgspec.structs.replace(one, id="fedcba9876543210", address=IPv4Interface("10.64.0.131/25"))
    return list(
        wanted(
            Records(
                overlays=[DUAL],
                agent_subnets=HELD,
                pools=[],
                addresses=[],
                networks=[network(internal=internal)],
                endpoints=[one, two],
                ports=list(records),
            )
        ).ports
    )


def test_a_published_port_leads_to_the_address_of_its_family() -> None:
    assert [(str(one.at), str(one.target), one.port, one.bridge) for one in published(PORT, PORT6)] == [
        ("0.0.0.0:8080/tcp", "10.64.0.130", 80, "d-dual"),
        ("[::]:8080/tcp", "fd01:b::8000:0:2", 80, "d-dual"),
    ]


def test_a_port_is_published_once_of_whoever_shares_it() -> None:
    shared = published(PORT, msgspec.structs.replace(PORT, endpoint="fedcba9876543210"))
    assert [str(one.target) for one in shared] == ["10.64.0.130"]


def test_a_published_port_tells_by_which_other_bridges_its_container_answers_in_that_family() -> None:
    here = endpoint(address6=IPv6Interface("fd01:b::8000:0:2/81"))
    there = msgspec.structs.replace(
        endpoint(), id="fedcba9876543210", network="n2", address=ip_interface("9.0.0.130/25")
    )
    elsewhere = msgspec.structs.replace(there, id="00", sandbox="/run/netns/y")
    second = msgspec.structs.replace(network(), id="n2", overlay="dcos")
    records = Records(
        overlays=[DCOS, DUAL],
        agent_subnets=HELD,
        pools=[],
        addresses=[],
        networks=[network(), second],
        endpoints=[here, there, elsewhere],
        ports=[PORT, PORT6],
    )
    assert [(one.at.family, one.beside) for one in wanted(records).ports] == [(4, ("d-dcos",)), (6, ())]


def test_nothing_leads_to_a_container_that_has_left_or_is_on_an_internal_network() -> None:
    assert published(PORT, sandbox=None) == []
    assert published(PORT, internal=True) == []
