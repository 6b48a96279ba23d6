# SPDX-License-Identifier: Apache-2.0
"""`dni check` names where the kernel differs from the store, and lets pass what may be under way."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_interface

import msgspec
import pytest

from dni_driver.core.invariants.finding import Finding
from dni_driver.core.mtu import Underlay
from dni_driver.core.names import egress_link, host_link
from dni_driver.core.options.bandwidth import Limits
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import AgentSubnet
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.views import KernelView
from tests.unit.scene import DB, JUST_NOW, WEB, bridge, check, endpoint, kernel, link, network, problems, records


def test_an_address_swapped_between_two_endpoints_is_found_on_both_sides() -> None:
    swapped = [endpoint(WEB, "9.0.0.131"), endpoint(DB, "9.0.0.130")]
    assert len(check(records(endpoints=swapped))) == 4


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        (kernel(bridges=()), "d-dcos is missing"),
        (kernel(bridges=(bridge(up=False),)), "d-dcos is down"),
        (kernel(bridges=(bridge(mtu=1500),)), "d-dcos has MTU 1500 instead of 1450"),
        (kernel(bridges=(bridge(addresses=()),)), "d-dcos lacks address 9.0.0.129/25"),
        (
            kernel(bridges=(bridge(addresses=(ip_interface("9.0.0.129/25"), ip_interface("9.0.7.1/25"))),)),
            "d-dcos carries address 9.0.7.1/25, which is not its own",
        ),
        (kernel(bridges=(bridge(), bridge(name="d-old"))), "d-old is a bridge of dni that no network needs"),
        (kernel(links=(link(WEB),)), f"{host_link(DB)} is missing (link of endpoint 222222222222)"),
        (
            kernel(links=(link(WEB), link(DB), link("9" * 64))),
            f"{host_link('9' * 64)} is a link of dni that no endpoint has",
        ),
        (
            kernel(links=(link(WEB), msgspec.structs.replace(link(DB), bridge=None))),
            f"{host_link(DB)} hangs on no bridge instead of d-dcos (link of endpoint 222222222222)",
        ),
        (
            kernel(links=(link(WEB), msgspec.structs.replace(link(DB), up=False, mtu=9000))),
            f"{host_link(DB)} is down (link of endpoint 222222222222)",
        ),
        (
            kernel(links=(link(WEB), msgspec.structs.replace(link(DB), limits=Limits(egress=10_000_000)))),
            f"{host_link(DB)} is held to egress=10mbit instead of egress=none (link of endpoint 222222222222)",
        ),
        (kernel(ifbs=("dne99999999999",)), "dne99999999999 is a link of dni that no endpoint has"),
        (kernel(firewall=("table inet dni is missing",)), "firewall table inet dni is missing"),
    ],
)
def test_a_kernel_that_differs_from_the_store_is_told(seen: KernelView, problem: str) -> None:
    found = check(records(), seen)
    assert problem in problems(found)
    assert {finding.mend for finding in found} == {"dni repair"}


def test_what_the_kernel_does_not_know_of_other_agents_is_told() -> None:
    missing = ("peers", "lack in the kernel: route 9.0.2.0/24 via 44.128.0.2 dev vtep1024")
    assert check(records(), kernel(peers=(missing,))) == [
        Finding(about="peers", problem=missing[1], mend="dni repair")
    ]


def test_an_agent_that_the_backend_does_not_reach_is_told() -> None:
    far = Peer(
        agent_ip=IPv4Address("10.0.1.2"),
        vtep=Vtep(IPv4Interface("44.128.0.2/20")),
        subnets=(AgentSubnet(overlay="dcos", subnet=IPv4Network("9.0.2.0/24")),),
    )
    overlays = [msgspec.structs.replace(one, backend="direct") for one in records().overlays]
    direct = records(overlays=overlays, peers=[far])
    here = Underlay(link="eth0", mtu=1500, networks=(IPv4Network("10.0.0.0/24"),))
    (found,) = (one for one in check(direct, kernel(underlay=here)) if one.about == "overlay dcos")
    assert found.problem == "backend direct does not reach agent 10.0.1.2, behind a router: auto would, by VXLAN"


def test_a_limit_that_does_not_hold_is_told() -> None:
    limited = msgspec.structs.replace(endpoint(DB, "9.0.0.131"), options=EndpointOptions(ingress=20_000_000))
    there = records(endpoints=[endpoint(WEB, "9.0.0.130"), limited])
    held = msgspec.structs.replace(link(DB), limits=Limits(ingress=20_000_000))
    assert check(there, kernel(links=(link(WEB), held))) == []
    assert problems(check(there, kernel())) == [
        f"{host_link(DB)} is held to ingress=none instead of ingress=20mbit (link of endpoint 222222222222)"
    ]


def test_what_holds_a_known_endpoint_back_is_no_stranger() -> None:
    assert check(records(), kernel(ifbs=(egress_link(WEB),))) == []


def test_a_network_too_large_for_the_underlay_is_told_with_both_ways_out() -> None:
    given = records(networks=[msgspec.structs.replace(network(), options=NetworkOptions(mtu=1450))])
    assert check(given, kernel(underlay=Underlay(link="eth0", mtu=1500))) == []
    assert check(given, kernel(underlay=Underlay(link="eth0", mtu=1400))) == [
        Finding(
            about="network dcos",
            problem="mtu=1450 does not fit: eth0 has 1400, VXLAN takes 50: at most 1350",
            mend="raise the MTU of eth0, or create the network again with a smaller -o mtu",
        )
    ]


def test_what_was_recorded_just_now_may_be_missing_in_the_kernel() -> None:
    young = records(
        networks=[network(since=JUST_NOW)],
        endpoints=[endpoint(WEB, "9.0.0.130", since=JUST_NOW), endpoint(DB, "9.0.0.131", since=JUST_NOW)],
    )
    assert check(young, KernelView()) == []


def test_an_endpoint_in_no_sandbox_needs_no_link_but_may_have_one() -> None:
    left = records(endpoints=[endpoint(WEB, "9.0.0.130"), endpoint(DB, "9.0.0.131", sandbox=None)])
    assert check(left, kernel()) == []
    assert check(left, kernel(links=(link(WEB),))) == []
