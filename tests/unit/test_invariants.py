# SPDX-License-Identifier: Apache-2.0
"""`dni check` is silent about a host in good order, and names what its store contradicts itself in."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network

import msgspec
import pytest

from dni_driver.core.local_subnets import LocalSubnet
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.core.ports import HostPort, PortRecord, Protocol
from dni_driver.core.records import AddressState, PoolRecord, Records, ReservationRecord
from tests.unit.scene import (
    DB,
    LONG_AGO,
    PLAIN,
    WEB,
    address,
    check,
    docker,
    endpoint,
    kernel,
    network,
    problems,
    records,
    with_addresses,
)


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


LOCAL = IPv4Network("198.18.0.0/20")


def test_a_local_subnet_belongs_to_an_overlay_and_shares_no_address() -> None:
    apart = records(local_subnets=[LocalSubnet(overlay="dcos", subnet=LOCAL)])
    assert check(apart) == []
    stray = records(local_subnets=[LocalSubnet(overlay="gone", subnet=LOCAL)])
    assert problems(check(stray)) == [f"local subnet {LOCAL} belongs to overlay 'gone', which is not known"]
    twice = [LocalSubnet(overlay="dcos", subnet=IPv4Network(subnet)) for subnet in (LOCAL, "9.7.0.0/20")]
    (problem,) = problems(check(records(local_subnets=twice)))
    assert problem == "overlay 'dcos' shares addresses with local subnet 9.7.0.0/20 of 'dcos'"
