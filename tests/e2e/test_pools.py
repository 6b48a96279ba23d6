# SPDX-License-Identifier: Apache-2.0
"""Full halves, slow reuse, and plain pools for other drivers."""

from __future__ import annotations

from tests.e2e import host_state
from tests.e2e.containers import address, create, reaches, refused, start
from tests.lab import Host


def _small(host: Host) -> None:
    """An overlay that one agent has all of, with room for five containers: 10.67.0.10 to 10.67.0.14."""
    create(host, "--subnet", "10.67.0.0/28", "--ipam-opt", "overlay=small", "--ipam-opt", "prefix=28", "small")


def test_a_full_half_says_who_holds_it_and_one_release_makes_room(host: Host) -> None:
    _small(host)
    for number in range(5):
        start(host, f"c{number}", net="small")
    text = refused(host, "run", "--rm", "--net", "small", "busybox", "true")
    for word in ("'small'", f"agent {host.address}", "5 of 5 used", "dni address ls --overlay small"):
        assert word in text
    listed = host.dni("address", "ls", "--overlay", "small")
    assert "10.67.0.10" in listed
    freed = address(host, "c2", "small")
    host.docker("rm", "-f", "c2")
    assert start(host, "again", net="small") == freed


def test_a_freed_address_is_the_last_to_come_back(host: Host) -> None:
    _small(host)
    first = start(host, "c0", net="small")
    host.docker("rm", "-f", "c0")
    later = [start(host, f"c{number}", net="small") for number in range(1, 6)]
    assert first not in later[:4]
    assert later[4] == first


def test_slow_reuse_outlives_the_network(host: Host) -> None:
    _small(host)
    first = start(host, "c0", net="small")
    host.docker("rm", "-f", "c0")
    host.docker("network", "rm", "small")
    create(host, "--ipam-opt", "overlay=small", "small")
    assert start(host, "c1", net="small") != first


def test_the_ipam_driver_serves_dockers_bridge_driver_from_a_plain_pool(host: Host) -> None:
    host.docker("network", "create", "--ipam-driver", "dni", "--subnet", "10.80.0.0/24", "plain")
    first, second = start(host, "one", net="plain"), start(host, "two", net="plain")
    assert (first, second) == ("10.80.0.2", "10.80.0.3")
    assert reaches(host, "one", second)
    assert {row["address"] for row in host_state.held(host)} == {"10.80.0.1", "10.80.0.2", "10.80.0.3"}
    assert host_state.findings(host) == []
    host.docker("rm", "-f", "one", "two")
    host.docker("network", "rm", "plain")
    assert host_state.addresses(host) == []


def test_a_plain_pool_keeps_range_gateway_and_aux_address(host: Host) -> None:
    host.docker(
        "network",
        "create",
        "--ipam-driver",
        "dni",
        "--subnet",
        "10.81.0.0/24",
        "--ip-range",
        "10.81.0.64/26",
        "--gateway",
        "10.81.0.254",
        "--aux-address",
        "router=10.81.0.64",
        "plain",
    )
    assert start(host, "one", net="plain") == "10.81.0.65"
    assert start(host, "two", "--ip", "10.81.0.9", net="plain") == "10.81.0.9"


def test_a_plain_pool_that_overlaps_another_is_refused(host: Host) -> None:
    host.docker("network", "create", "--ipam-driver", "dni", "--subnet", "10.82.0.0/24", "plain")
    text = refused(host, "network", "create", "--ipam-driver", "dni", "--subnet", "10.82.0.0/25", "other")
    assert "overlaps plain pool 10.82.0.0/24" in text


def test_addresses_of_a_plain_pool_survive_the_collector(host: Host) -> None:
    host.docker("network", "create", "--ipam-driver", "dni", "--subnet", "10.83.0.0/24", "plain")
    there = start(host, "one", net="plain")
    host_state.pass_collector(host)
    assert there in {row["address"] for row in host_state.held(host)}
