# SPDX-License-Identifier: Apache-2.0
"""The agent has room before it is needed, and says so where there is none to be had."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from dni_driver.agent.reserving import Reserving
from dni_driver.agent.room import RETRY_SECONDS
from dni_driver.core.addresses.reservations import read_wish
from dni_driver.core.errors import Crowded, Exhausted, Refused, StoreError, Unavailable
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.core.reports import overlay_report
from dni_driver.store import pools
from dni_driver.store.claiming import ANY, claim, halves_of
from dni_driver.store.records import read_all
from tests.fakes import AGENT
from tests.members import joined
from tests.scratch import fast_directory
from tests.unit.tiny_overlay import OTHER, Host, busy, host

__all__ = ["busy", "host"]


def test_one_more_agent_subnet_is_leased_when_four_fifths_are_used(host: Host) -> None:
    host.create_network()
    for expected in (1, 1, 1, 2):
        host.take()
        assert host.room.look() == []
        assert len(host.halves()) == expected
    assert host.leased() == ["10.80.0.0/28", "10.80.0.16/28"]


def test_its_gateway_is_on_the_bridge_when_the_look_ends(host: Host) -> None:
    host.create_network()
    [host.take() for _ in range(4)]
    host.room.look()
    carried = [str(address) for address in host.kernel.bridges["d-tiny"].addresses]
    assert carried == ["10.80.0.9/29", "10.80.0.25/29"]


def test_addresses_go_on_in_the_next_half_after_the_first(host: Host) -> None:
    host.create_network()
    taken = []
    for _ in range(20):
        taken.append(host.take())
        host.room.look()
    assert taken == [f"10.80.0.{start + number}" for start in (10, 26, 42, 58) for number in range(5)]
    assert len(set(host.leased())) == 4


def test_a_full_overlay_fails_a_start_with_size_and_use_of_all_halves_and_who_lists_the_holders(host: Host) -> None:
    host.create_network()
    joined(host.registry, OTHER).lease("tiny", 4, OTHER)
    host.registry.lease("tiny", 4, OTHER)
    for _ in range(10):
        host.take()
        host.room.look()
    words = (
        "no free address in the 2 Docker halves of overlay 'tiny' on agent 192.0.2.10: 10 of 10 used, 0 reserved, "
        "and overlay 'tiny' is full: all 4 agent subnets of /28 in 10.80.0.0/26 are held.*"
        "`dni address ls --overlay tiny` lists the holders"
    )
    with pytest.raises(Exhausted, match=words) as raised:
        host.take()
    assert not isinstance(raised.value, Crowded), "nobody waits for what will not come"


def test_a_full_overlay_is_a_problem_as_long_as_it_is_one(host: Host) -> None:
    host.lease_the_rest()
    host.create_network()
    [host.take() for _ in range(4)]
    assert re.match(r"IPv4 of overlay 'tiny': overlay 'tiny' is full", host.room.look()[0])
    host.registry.give_back(AgentSubnet(overlay="tiny", subnet=ip_network("10.80.0.32/28")), OTHER)
    host.clock.pass_by(RETRY_SECONDS)
    assert host.room.look() == []
    assert host.leased() == ["10.80.0.0/28", "10.80.0.32/28"]


def test_the_registry_is_not_asked_again_and_again_for_what_it_has_not(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.lease_the_rest()
    host.create_network()
    asked: list[str] = []

    def lease(*_: object) -> AgentSubnet:
        asked.append("")
        raise Exhausted("full")

    monkeypatch.setattr(host.registry, "lease", lease)
    for _ in range(5):
        host.take()
        assert host.room.look() == ["IPv4 of overlay 'tiny': full"] or not asked
    assert len(asked) == 1
    host.clock.pass_by(RETRY_SECONDS)
    host.room.look()
    assert len(asked) == 2


def test_a_registry_that_cannot_be_had_is_said_at_once_to_whoever_finds_no_address(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lease(*_: object) -> AgentSubnet:
        raise Unavailable("the registry does not answer")

    monkeypatch.setattr(host.registry, "lease", lease)
    host.create_network()
    for _ in range(5):
        host.take()
        host.room.look()
    with pytest.raises(Exhausted, match="no more can be leased now: the registry does not answer"):
        host.take()


def test_a_disk_that_is_full_costs_the_cluster_one_agent_subnet_and_not_all(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.create_network()
    [host.take() for _ in range(4)]
    with monkeypatch.context() as patched:
        host.fill_the_disk(patched)
        for _ in range(4):
            with pytest.raises(StoreError, match="the disk is full"):
                host.room.look()
            host.clock.pass_by(RETRY_SECONDS)
    assert [str(lease.held.subnet) for lease in host.registry.leases(AGENT)] == ["10.80.0.0/28", "10.80.0.16/28"]
    assert host.room.look() == []
    assert host.leased() == ["10.80.0.0/28", "10.80.0.16/28"]


def test_without_an_answer_of_the_agent_a_start_is_told_to_wait(host: Host) -> None:
    host.create_network()
    [host.take() for _ in range(5)]
    with pytest.raises(Crowded, match=r"no free address.*5 of 5 used.*the agent has leased no more yet"):
        host.take()


def test_an_ip_range_does_not_grow_and_says_so(host: Host) -> None:
    host.create_network(ip_range="10.80.0.12/30")
    [host.take() for _ in range(3)]
    assert host.room.look() == []
    with pytest.raises(
        Exhausted,
        match=r"within --ip-range 10.80.0.12/30: 3 of 3 used, 0 reserved, and a network "
        r"with --ip-range does not grow",
    ) as raised:
        host.take()
    assert not isinstance(raised.value, Crowded)
    assert host.leased() == ["10.80.0.0/28"]


def test_what_is_reserved_counts_as_taken(host: Host) -> None:
    Reserving(host.store, host.clock).reserve(read_wish("tiny", "10.80.0.11-10.80.0.13"))
    host.create_network()
    host.room.look()
    assert len(host.halves()) == 1
    host.take()
    host.room.look()
    assert len(host.halves()) == 2


def test_addresses_can_be_asked_for_and_reserved_in_any_half(busy: Host) -> None:
    assert busy.take("10.80.0.30") == "10.80.0.30"
    made = Reserving(busy.store, busy.clock).reserve(read_wish("tiny", "10.80.0.27-10.80.0.28"))
    assert str(made) == "10.80.0.27-10.80.0.28"
    with pytest.raises(Refused, match=r"10.80.0.10 to 10.80.0.14 or 10.80.0.26 to 10.80.0.30"):
        busy.take("10.80.0.25")


def test_reports_count_all_halves(busy: Host) -> None:
    report = overlay_report(read_all(busy.store), "tiny")
    assert report.docker_halves == ["10.80.0.8/29", "10.80.0.24/29"]
    assert report.usage.v4 is not None
    assert (report.usage.v4.size, report.usage.v4.used, report.usage.v4.free) == (10, 1, 9)


def test_a_look_that_finds_nothing_written_reads_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.room.look()
    monkeypatch.setattr(host.store, "read", None)
    assert host.room.look() == []


def test_ipv6_halves_are_huge_and_stay_one() -> None:
    six = define("six", [ip_network("fd06::/64")])
    with fast_directory() as directory:
        host = Host(Path(directory))
        host.joining.define(six)
        with host.store.write() as tx:
            pool = pools.use_overlay(tx, "six", 6, None, host.clock.now)
            for _ in range(300):
                claim(tx, pool, halves_of(tx, pool), ANY, host.clock.now)
        host.room.look()
        assert [str(one.held.subnet) for one in host.registry.leases() if one.held.overlay == "six"] == ["fd06::/80"]
        host.close()
