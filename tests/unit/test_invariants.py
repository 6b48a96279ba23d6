# SPDX-License-Identifier: Apache-2.0
"""`dni check` is silent about a host in good order, and names everything that is not."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, ip_address, ip_interface, ip_network

import msgspec
import pytest

from dni_driver.core.invariants.check import findings
from dni_driver.core.invariants.finding import Finding
from dni_driver.core.local_subnets import LocalSubnet
from dni_driver.core.mtu import Underlay
from dni_driver.core.names import egress_link, host_link
from dni_driver.core.options.bandwidth import Limits
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.ports import HostPort, PortRecord, Protocol
from dni_driver.core.records import AddressState, PoolRecord, Records, ReservationRecord
from dni_driver.core.views import DockerNetwork, DockerView, KernelView
from dni_driver.core.wanted import wanted
from tests.unit.scene import (
    DB,
    DB_IN_DOCKER,
    DCOS,
    JUST_NOW,
    LONG_AGO,
    NOW,
    PLAIN,
    PLAIN_IN_DOCKER,
    POOL,
    WEB,
    WEB_IN_DOCKER,
    address,
    br0,
    bridge,
    dcos,
    docker,
    docker_endpoint,
    endpoint,
    kernel,
    link,
    network,
    records,
)


def check(records: Records, kernel: KernelView | None = None, docker: DockerView | None = None) -> list[Finding]:
    return findings(records, kernel, docker, wanted(records), NOW)


def problems(found: list[Finding]) -> list[str]:
    return [f"{finding.about} {finding.problem}" for finding in found]


def with_addresses(*more: object) -> Records:
    return records(addresses=[*records().addresses, *more])


def test_a_host_in_good_order_has_no_findings() -> None:
    assert check(records(), kernel(), docker()) == []


def test_without_kernel_or_docker_only_the_store_is_looked_at() -> None:
    assert check(records()) == []


def port(ip: str, number: int, whose: str, inside: int = 80) -> PortRecord:
    return PortRecord(at=HostPort(Protocol.TCP, ip_address(ip), number), endpoint=whose, port=inside)


def with_ports(*ports: PortRecord) -> Records:
    return records(
        ports=list(ports), endpoints=[endpoint(WEB, "9.0.0.130"), endpoint(DB, "9.0.0.131", sandbox="/db")]
    )


def test_two_endpoints_of_a_container_may_share_a_port() -> None:
    beside = with_ports(port("0.0.0.0", 8080, WEB), port("0.0.0.0", 8080, DB))
    assert len(check(beside)) == 1
    assert check(msgspec.structs.replace(beside, endpoints=records().endpoints)) == [], "of one sandbox"


DUAL = define("dual", [ip_network("10.5.0.0/16")])


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (
            records(overlays=[*records().overlays, DUAL]),
            "overlay 'dual' shares addresses with pool plain/10.5.0.0/24",
        ),
        (
            records(
                agent_subnets=[*records().agent_subnets, AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/23"))]
            ),
            "agent subnet 9.0.0.0/23 of 'dcos' shares addresses with agent subnet 9.0.0.0/24 of 'dcos'",
        ),
        (
            records(
                agent_subnets=[*records().agent_subnets, AgentSubnet(overlay="dcos", subnet=ip_network("8.0.0.0/24"))]
            ),
            "agent subnet 8.0.0.0/24 does not fit overlay 'dcos'",
        ),
        (
            records(pools=[*records().pools, PoolRecord(id="gone/v4", family=4, overlay="gone")]),
            "pool gone/v4 belongs to overlay 'gone', which is not known",
        ),
        (
            records(networks=[network(), msgspec.structs.replace(network(), id="e" * 64)]),
            "overlay 'dcos' has 2 networks on this host",
        ),
        (
            with_addresses(address("9.0.0.140", pool="none/v4")),
            "address 9.0.0.140 is held in pool none/v4, which does not have it",
        ),
        (
            with_addresses(address("9.0.0.129", AddressState.RESERVED)),
            "address 9.0.0.129 is held in pool dcos/v4, which does not have it",
        ),
        (
            with_addresses(address("9.0.0.130", pool=PLAIN)),
            "address 9.0.0.130 is held twice: in pool dcos/v4 and in pool plain/10.5.0.0/24",
        ),
        (with_addresses(address("9.0.0.140", since=0)), "address 9.0.0.140 is held without a date"),
        (
            with_ports(port("0.0.0.0", 8080, WEB), port("127.0.0.1", 8080, DB)),
            f"port 0.0.0.0:8080/tcp overlaps 127.0.0.1:8080/tcp of endpoint {DB[:12]}",
        ),
        (
            with_ports(port("0.0.0.0", 8080, WEB), port("0.0.0.0", 8080, WEB, inside=81)),
            f"port 0.0.0.0:8080/tcp overlaps 0.0.0.0:8080/tcp of endpoint {WEB[:12]}",
        ),
        (
            with_ports(port("0.0.0.0", 8080, "f" * 64)),
            "port 0.0.0.0:8080/tcp belongs to endpoint ffffffffffff, which is not known",
        ),
        (
            records(
                ports=[port("0.0.0.0", 8080, WEB)],
                endpoints=[msgspec.structs.replace(endpoint(WEB, "9.0.0.130"), address=None)],
            ),
            f"port 0.0.0.0:8080/tcp leads to endpoint {WEB[:12]}, which has no such address",
        ),
        (
            with_addresses(address("9.0.0.140", AddressState.BOUND, endpoint="9" * 64)),
            "address 9.0.0.140 of pool dcos/v4 is bound to endpoint 999999999999, which has it not",
        ),
        (
            records(endpoints=[*records().endpoints, endpoint("9" * 64, "9.0.0.140")]),
            "endpoint 999999999999 has address 9.0.0.140, which pool dcos/v4 does not give it",
        ),
        (
            records(endpoints=[msgspec.structs.replace(endpoint(WEB, "9.0.0.130"), network="gone")]),
            "endpoint 111111111111 is on network gone, which is not known",
        ),
    ],
)
def test_a_store_that_contradicts_itself_is_told(broken: Records, problem: str) -> None:
    assert problem in problems(check(broken))


def kept(first: str, last: str = "", container: str | None = None) -> ReservationRecord:
    ends = ip_address(first), ip_address(last or first)
    return ReservationRecord(overlay="dcos", first=ends[0], last=ends[1], container=container, since=LONG_AGO)


def test_reservations_in_good_order_are_no_finding() -> None:
    whole = [kept("9.0.0.130", container="web"), kept("9.0.0.140"), kept("9.0.0.200", "9.0.0.254")]
    assert check(records(reservations=whole)) == []


@pytest.mark.parametrize(
    ("reservations", "problem"),
    [
        (
            [kept("9.0.0.140", "9.0.0.150"), kept("9.0.0.150")],
            "reservation 9.0.0.140-9.0.0.150 shares addresses with 9.0.0.150",
        ),
        (
            [kept("9.0.0.140", container="web"), kept("9.0.0.141", container="web")],
            "container web has 2 addresses of overlay 'dcos' reserved",
        ),
        ([kept("9.0.7.140")], "reservation 9.0.7.140 lies outside this agent's halves of overlay 'dcos'"),
        ([kept("9.0.0.129")], "reservation 9.0.0.129 lies outside this agent's halves of overlay 'dcos'"),
    ],
)
def test_a_reservation_that_cannot_be_is_told(reservations: list[ReservationRecord], problem: str) -> None:
    assert problems(check(records(reservations=reservations))) == [problem]


def test_what_lies_outside_the_halves_is_mended_by_giving_it_up() -> None:
    (found,) = check(records(reservations=[kept("9.0.7.140", "9.0.7.150")]))
    assert found.mend == "dni address release dcos 9.0.7.140-9.0.7.150"


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


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        (
            docker(dcos(WEB_IN_DOCKER), br0(PLAIN_IN_DOCKER)),
            "endpoint 222222222222 is recorded with 9.0.0.131, but Docker does not list it",
        ),
        (
            docker(br0(PLAIN_IN_DOCKER)),
            "network dcos is recorded on overlay 'dcos', but Docker does not list it",
        ),
        (
            docker(dcos(WEB_IN_DOCKER, DB_IN_DOCKER)),
            "pool plain/10.5.0.0/24 is recorded, but no Docker network uses it",
        ),
        (
            docker(dcos(WEB_IN_DOCKER, DB_IN_DOCKER), br0()),
            "address 10.5.0.2 is claimed in pool plain/10.5.0.0/24, but Docker shows it nowhere",
        ),
    ],
)
def test_what_docker_does_not_know_is_told_and_can_be_repaired(seen: DockerView, problem: str) -> None:
    found = check(records(), None, seen)
    assert problem in problems(found)
    assert {finding.mend for finding in found} == {"dni repair"}


def test_a_claim_that_docker_never_used_is_told() -> None:
    found = check(with_addresses(address("9.0.0.140")), None, docker())
    assert problems(found) == ["address 9.0.0.140 is claimed in pool dcos/v4, but Docker shows it nowhere"]


def test_what_was_recorded_just_now_may_be_missing_in_docker() -> None:
    young = records(
        pools=[PoolRecord(id=POOL, family=4, overlay="dcos", uses=1, since=JUST_NOW)],
        addresses=[
            address("9.0.0.130", AddressState.BOUND, endpoint=WEB, network=DCOS, since=JUST_NOW),
            address("9.0.0.140", since=JUST_NOW),
        ],
        networks=[network(since=LONG_AGO)],
        endpoints=[endpoint(WEB, "9.0.0.130", since=LONG_AGO)],
    )
    assert check(young, None, docker(dcos())) == []
    assert check(msgspec.structs.replace(young, networks=[network(since=JUST_NOW)]), None, DockerView()) == []


def test_a_record_dated_in_the_future_is_not_held_against_docker() -> None:
    """The clock was set back: its true age is not known."""
    ahead = with_addresses(address("9.0.0.140", since=NOW + 86400))
    assert check(ahead, None, docker()) == []


@pytest.mark.parametrize(
    ("seen", "finding"),
    [
        (
            docker(
                dcos(WEB_IN_DOCKER, DB_IN_DOCKER, docker_endpoint("9" * 64, "lost", "9.0.0.150")),
                br0(PLAIN_IN_DOCKER),
            ),
            Finding(
                about="container lost",
                problem="is on network dcos in Docker, but dni has no record of its endpoint",
                mend="docker restart lost",
            ),
        ),
        (
            docker(dcos(WEB_IN_DOCKER, docker_endpoint(DB, "db", "9.0.0.199")), br0(PLAIN_IN_DOCKER)),
            Finding(
                about="container db",
                problem="has 9.0.0.199 on network dcos, but dni recorded 9.0.0.131",
                mend="docker restart db",
            ),
        ),
        (
            docker(
                dcos(WEB_IN_DOCKER, DB_IN_DOCKER),
                br0(PLAIN_IN_DOCKER),
                DockerNetwork(id="f" * 64, name="dev", driver="dni:latest", ipam_driver="dni:latest"),
            ),
            Finding(
                about="network dev",
                problem="is in Docker, but dni has no record of it",
                mend="docker network rm dev, then create it again; where the store was lost, stop dni and put back a "
                "copy of it",
            ),
        ),
        (
            docker(
                dcos(WEB_IN_DOCKER, DB_IN_DOCKER),
                br0(PLAIN_IN_DOCKER, docker_endpoint("9" * 64, "new", "10.5.0.9")),
            ),
            Finding(
                about="container new",
                problem="has 10.5.0.9 on network br0, which dni would hand out again",
                mend="docker restart new",
            ),
        ),
        (
            docker(
                dcos(WEB_IN_DOCKER, DB_IN_DOCKER),
                br0(PLAIN_IN_DOCKER),
                DockerNetwork(id="f" * 64, name="mix", driver="bridge", ipam_driver="dni", subnets=("9.0.0.128/25",)),
            ),
            Finding(
                about="network mix",
                problem="takes addresses of overlay 'dcos', but its driver is 'bridge'",
                mend="docker network rm mix, then create it with -d dni, or on a --subnet that no overlay has",
            ),
        ),
    ],
)
def test_what_only_docker_knows_is_told_with_the_command_that_mends_it(seen: DockerView, finding: Finding) -> None:
    assert check(records(), None, seen) == [finding]


def test_an_endpoint_whose_addresses_docker_does_not_tell_is_not_suspect() -> None:
    seen = docker(dcos(docker_endpoint(WEB, "web"), DB_IN_DOCKER), br0(PLAIN_IN_DOCKER))
    assert check(records(), None, seen) == []


LOCAL = IPv4Network("198.18.0.0/20")


def test_a_local_subnet_belongs_to_an_overlay_and_shares_no_address() -> None:
    apart = records(local_subnets=[LocalSubnet(overlay="dcos", subnet=LOCAL)])
    assert check(apart) == []
    stray = records(local_subnets=[LocalSubnet(overlay="gone", subnet=LOCAL)])
    assert problems(check(stray)) == [f"local subnet {LOCAL} belongs to overlay 'gone', which is not known"]
    twice = [LocalSubnet(overlay="dcos", subnet=IPv4Network(subnet)) for subnet in (LOCAL, "9.7.0.0/20")]
    (problem,) = problems(check(records(local_subnets=twice)))
    assert problem == "overlay 'dcos' shares addresses with local subnet 9.7.0.0/20 of 'dcos'"


def dual(state: AddressState) -> Records:
    """Answer a host where `db` has an IPv6 address too, in this state."""
    both = msgspec.structs.replace(endpoint(DB, "9.0.0.131"), address6=IPv6Interface("fd01:b::8000:0:2/81"))
    six = address("fd01:b::8000:0:2", state, pool="dcos/v6", endpoint=DB, network=DCOS)
    return records(
        overlays=[define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")])],
        agent_subnets=[*records().agent_subnets, AgentSubnet(overlay="dcos", subnet=ip_network("fd01:b::/80"))],
        pools=[*records().pools, PoolRecord(id="dcos/v6", family=6, overlay="dcos", uses=1, since=LONG_AGO)],
        addresses=[*records().addresses, six],
        endpoints=[endpoint(WEB, "9.0.0.130"), both],
    )


def test_an_address_that_docker_gave_back_while_the_container_runs_is_not_missed() -> None:
    assert check(dual(AddressState.LEAVING), docker=docker()) == []
    (problem,) = problems(check(dual(AddressState.BOUND), docker=docker()))
    assert problem == ("container db has 9.0.0.131 on network dcos, but dni recorded 9.0.0.131, fd01:b::8000:0:2")
