# SPDX-License-Identifier: Apache-2.0
"""`dni check` names where Docker differs from the store, with the command that mends it."""

from __future__ import annotations

from ipaddress import IPv6Interface, ip_network

import msgspec
import pytest

from dni_driver.core.invariants.finding import Finding
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.core.records import AddressState, PoolRecord, Records
from dni_driver.core.views import DockerNetwork, DockerView
from tests.unit.scene import (
    DB,
    DB_IN_DOCKER,
    DCOS,
    JUST_NOW,
    LONG_AGO,
    NOW,
    PLAIN_IN_DOCKER,
    POOL,
    WEB,
    WEB_IN_DOCKER,
    address,
    br0,
    check,
    dcos,
    docker,
    docker_endpoint,
    endpoint,
    network,
    problems,
    records,
    with_addresses,
)


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
                mend="docker network rm dev, then create it again; where the store was lost, stop dni, move away "
                "what is there, and put back a copy of it",
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
