# SPDX-License-Identifier: Apache-2.0
"""The agent gives back the room that nothing needs, whatever cuts that off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import IPv4Address, ip_network

import pytest

from dni_driver.agent.reserving import Reserving
from dni_driver.agent.room import EMPTY_SECONDS, IDLE_SECONDS, RETRY_SECONDS
from dni_driver.core.addresses.reservations import read_wish
from dni_driver.core.addresses.room import Leaving
from dni_driver.core.errors import KernelError, NotMended, Refused
from dni_driver.core.invariants.check import findings
from dni_driver.core.overlays import AgentSubnet
from dni_driver.core.wanted import wanted
from dni_driver.registry import Lease
from dni_driver.store import overlays, pools, room
from dni_driver.store.records import read_all
from tests.fakes import AGENT
from tests.members import joined
from tests.unit.tiny_overlay import OTHER, Host, busy, host, take_from_mesos_half

__all__ = ["busy", "host"]


def test_what_has_been_empty_for_an_hour_is_given_back(busy: Host) -> None:
    busy.look_for(EMPTY_SECONDS - IDLE_SECONDS)
    assert len(busy.halves()) == 2
    assert busy.look_for(3 * IDLE_SECONDS) == []
    assert (busy.halves(), busy.leased()) == (["10.80.0.8/29"], ["10.80.0.0/28"])
    assert busy.carried() == ["10.80.0.9/29"]


@pytest.mark.parametrize("use", [lambda host: host.free(host.take("10.80.0.26")), take_from_mesos_half])
def test_an_address_in_between_lets_the_hour_begin_anew(busy: Host, use: Callable[[Host], None]) -> None:
    busy.look_for(EMPTY_SECONDS - 2 * IDLE_SECONDS)
    use(busy)
    busy.look_for(EMPTY_SECONDS - IDLE_SECONDS)
    assert len(busy.halves()) == 2
    busy.look_for(3 * IDLE_SECONDS)
    assert len(busy.halves()) == 1


def _take(host: Host) -> None:
    host.take("10.80.0.26")


def _reserve(host: Host) -> None:
    Reserving(host.store, host.clock).reserve(read_wish("tiny", "10.80.0.28"))


def _crowd(host: Host) -> None:
    [host.take() for _ in range(3)]


@pytest.mark.parametrize("use", [_take, _reserve, _crowd])
def test_what_is_used_or_reserved_or_needed_next_is_kept(busy: Host, use: Callable[[Host], None]) -> None:
    use(busy)
    busy.look_for(3 * EMPTY_SECONDS)
    assert busy.leased() == ["10.80.0.0/28", "10.80.0.16/28"]


def test_the_first_is_kept_also_when_it_is_empty(busy: Host) -> None:
    busy.free("10.80.0.10")
    busy.take("10.80.0.26")
    busy.look_for(3 * EMPTY_SECONDS)
    assert busy.leased() == ["10.80.0.0/28", "10.80.0.16/28"]


def test_the_half_that_docker_has_as_its_networks_pool_is_kept(host: Host) -> None:
    with host.store.write() as tx:
        pools.use_overlay(tx, "tiny", 4, None, host.clock.now)
    [host.take() for _ in range(4)]
    host.room.look()
    host.create_network(gateway="10.80.0.25/29")
    host.free(*(f"10.80.0.{number}" for number in range(10, 14)))
    host.look_for(3 * EMPTY_SECONDS)
    assert host.halves() == ["10.80.0.8/29", "10.80.0.24/29"]


def test_several_are_given_back_one_after_the_other_the_newest_first(host: Host) -> None:
    host.create_network()
    taken = []
    for _ in range(14):
        taken.append(host.take())
        host.room.look()
    assert len(host.halves()) == 4
    host.free(*taken)
    host.look_for(EMPTY_SECONDS)
    seen = []
    for _ in range(8):
        host.look_for(IDLE_SECONDS)
        seen.append(tuple(host.halves()))
    halves = ("10.80.0.8/29", "10.80.0.24/29", "10.80.0.40/29", "10.80.0.56/29")
    assert list(dict.fromkeys(seen)) == [halves, halves[:3], halves[:2], halves[:1]]
    assert host.leased() == ["10.80.0.0/28"]


def _begin_leaving(host: Host) -> None:
    """Have the agent end right after it marked what it gives back."""
    _, second = read_all(host.store).agent_subnets
    with host.store.write() as tx:
        room.begin_leaving(tx, Leaving(held=second, agent_ip=AGENT))


def test_no_address_comes_from_what_is_on_its_way_out(busy: Host) -> None:
    _begin_leaving(busy)
    with pytest.raises(Refused, match="lies outside"):
        busy.take("10.80.0.27")
    assert busy.take() == "10.80.0.14"
    with pytest.raises(Refused, match="lies outside"):
        Reserving(busy.store, busy.clock).reserve(read_wish("tiny", "10.80.0.28"))
    assert busy.carried() == ["10.80.0.9/29"]


def test_an_agent_that_died_after_the_mark_goes_on_from_it(busy: Host) -> None:
    _begin_leaving(busy)
    busy.start()
    busy.joining.join()
    assert busy.room.look() == []
    assert (busy.halves(), busy.leased()) == (["10.80.0.8/29"], ["10.80.0.0/28"])


def test_an_agent_that_died_after_the_registry_forgot_leaves_the_new_holder_alone(busy: Host) -> None:
    _begin_leaving(busy)
    second = AgentSubnet(overlay="tiny", subnet=ip_network("10.80.0.16/28"))
    busy.registry.give_back(second, AGENT)
    assert joined(busy.registry, OTHER).lease("tiny", 4, OTHER) == second
    assert busy.joining.join() == []
    busy.start()
    assert busy.room.look() == []
    assert [str(one.held.subnet) for one in busy.registry.leases(OTHER)] == ["10.80.0.16/28"]
    assert busy.halves() == ["10.80.0.8/29"]
    with busy.store.read() as tx:
        assert room.leaving(tx) == []


def test_a_joining_that_has_just_read_a_lease_does_not_record_again_what_is_given_back(
    busy: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another agent may have it by then."""
    _begin_leaving(busy)
    leases, given_back = busy.registry.leases, threading.Thread(target=busy.room.look)
    readings: list[list[Lease]] = []

    def read_slowly(agent_ip: IPv4Address | None = None) -> list[Lease]:
        read = leases(agent_ip)
        readings.append(read)
        if len(readings) == 2:
            given_back.start()
            given_back.join(0.5)
        return read

    monkeypatch.setattr(busy.registry, "leases", read_slowly)
    assert busy.joining.join() == []
    given_back.join(60)
    monkeypatch.undo()
    with busy.store.read() as tx:
        held = [str(one.subnet) for one in overlays.agent_subnets(tx)]
    assert held == busy.leased() == ["10.80.0.0/28"]


def test_nothing_is_given_back_while_the_kernel_still_has_it(busy: Host) -> None:
    _begin_leaving(busy)
    busy.kernel.refusals.append(NotMended([("d-tiny", "bridge d-tiny: Operation not permitted")]))
    assert busy.room.look() == [
        "agent subnet 10.80.0.16/28 of overlay 'tiny' stays: bridge d-tiny: Operation not permitted"
    ]
    assert busy.leased() == ["10.80.0.0/28", "10.80.0.16/28"]
    busy.clock.pass_by(RETRY_SECONDS)
    assert busy.room.look() == []
    assert busy.leased() == ["10.80.0.0/28"]


def test_trouble_with_another_bridge_does_not_keep_it(busy: Host) -> None:
    _begin_leaving(busy)
    busy.kernel.refusals.append(NotMended([("d-other", "bridge d-other: Operation not permitted")]))
    assert busy.room.look() == []
    assert busy.leased() == ["10.80.0.0/28"]


def test_a_kernel_that_cannot_be_asked_keeps_everything(busy: Host) -> None:
    _begin_leaving(busy)
    busy.kernel.refusals.append(KernelError("the kernel cannot be asked"))
    assert busy.room.look() == ["the kernel cannot be asked"]
    assert busy.leased() == ["10.80.0.0/28", "10.80.0.16/28"]


def test_what_was_given_back_can_be_had_again_as_new(busy: Host) -> None:
    busy.free(busy.take("10.80.0.26"))
    busy.look_for(EMPTY_SECONDS + 3 * IDLE_SECONDS)
    assert len(busy.halves()) == 1
    [busy.take() for _ in range(4)]
    busy.room.look()
    assert busy.halves() == ["10.80.0.8/29", "10.80.0.24/29"]
    assert busy.take() == "10.80.0.26"


def test_the_records_are_sound_all_the_way(busy: Host) -> None:
    def check() -> None:
        records = read_all(busy.store)
        assert findings(records, None, None, wanted(records), busy.clock.now) == []

    check()
    busy.free(busy.take("10.80.0.26"))
    _begin_leaving(busy)
    check()
    busy.room.look()
    check()
