# SPDX-License-Identifier: Apache-2.0
"""Which addresses of the Mesos half containers of CNI can have, ask for and keep from others."""

from __future__ import annotations

import pytest

from dni_driver.agent.reserving import Reserving
from dni_driver.core.addresses.reservations import read_wish
from dni_driver.core.addresses.room import Leaving, idle
from dni_driver.core.errors import Exhausted, InUse, Refused
from dni_driver.core.overlays import Address, Family
from dni_driver.core.reports import address_reports
from dni_driver.core.wanted import wanted
from dni_driver.store import pools, room
from dni_driver.store.claiming import ANY, claim, halves_of
from tests.fakes import AGENT, DCOS, lease
from tests.unit.agents import create_network
from tests.unit.cni_host import Host, host, key

__all__ = ["host"]


def test_an_address_can_be_asked_for(host: Host) -> None:
    assert host.address("one", "9.0.0.77") == "9.0.0.77/25"
    with pytest.raises(InUse, match=r"9\.0\.0\.77 is in use by container one"):
        host.attach("two", "9.0.0.77")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("9.0.0.130", "lies outside the Mesos half of overlay 'dcos' on this agent: choose one of 9.0.0.2 to"),
        ("9.0.0.1", "is the gateway of 9.0.0.0/25"),
        ("fd01::2", "overlay 'dcos' has no IPv6"),
    ],
)
def test_an_address_that_no_container_of_the_half_can_have_is_refused(host: Host, asked: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        host.attach("one", asked)
    assert host.held() == {}


def test_reserved_addresses_are_given_to_those_alone_who_ask_for_them(host: Host) -> None:
    reserving = Reserving(host.store, host.clock)
    reserving.reserve(read_wish("dcos", "9.0.0.2-9.0.0.5"))
    assert host.address("one") == "9.0.0.6/25"
    assert host.address("two", "9.0.0.3") == "9.0.0.3/25"
    listed = [(one.address, one.pool) for one in address_reports(host.records(), "dcos", with_free=False)]
    assert listed == [("9.0.0.2", "dcos/mesos4"), ("9.0.0.3", "dcos/mesos4"), ("9.0.0.6", "dcos/mesos4")]
    assert host.problems() == []


def test_an_address_that_a_container_has_cannot_be_reserved(host: Host) -> None:
    host.attach("one")
    with pytest.raises(InUse, match=r"9\.0\.0\.2 is in use by container one"):
        Reserving(host.store, host.clock).reserve(read_wish("dcos", "9.0.0.2"))


def fill_docker_half(host: Host) -> set[Address]:
    create_network(host.store, host.clock.now)
    found: set[Address] = set()
    with host.store.write() as tx:
        pool = pools.find(tx, "dcos/v4")
        while True:
            try:
                found.add(claim(tx, pool, halves_of(tx, pool), ANY, host.clock.now))
            except Exhausted:
                return found


def test_both_halves_filled_have_no_address_in_common_and_leave_out_gateways_and_broadcast(host: Host) -> None:
    docker = {str(one) for one in fill_docker_half(host)}
    mesos = {host.address(f"c{number}").partition("/")[0] for number in range(125)}
    with pytest.raises(Exhausted, match=r"no free address in the Mesos half of overlay 'dcos'.*125 of 125 used"):
        host.attach("one-more")
    assert docker.isdisjoint(mesos)
    assert docker | mesos == {f"9.0.0.{last}" for last in (*range(2, 127), *range(130, 255))}
    host.cni.detach(key("c7"))
    assert host.address("one-more") == "9.0.0.9/25"


def test_a_mesos_half_that_fills_up_calls_for_more_room_and_what_a_container_is_in_is_not_given_back(
    host: Host,
) -> None:
    def scarce() -> list[tuple[str, Family]]:
        with host.store.read() as tx:
            return list(room.scarce(tx))

    for number in range(99):
        host.attach(f"c{number}")
    assert scarce() == []
    host.attach("c99")
    assert scarce() == [("dcos", 4)]
    lease(host.store, DCOS, "9.0.7.0/24")
    assert scarce() == []
    for number in range(100, 125):
        host.attach(f"c{number}")
    report = host.attach("in-the-second")
    assert [(one.address, one.gateway) for one in report.addresses] == [("9.0.7.2/25", "9.0.7.1")]
    assert [str(one) for one in host.kernel.bridges["m-dcos"].addresses] == ["9.0.0.1/25", "9.0.7.1/25"]
    for number in range(125):
        host.cni.detach(key(f"c{number}"))
    assert list(idle(host.records(), host.clock.now)) == []
    host.cni.detach(key("in-the-second"))
    (found,) = idle(host.records(), host.clock.now)
    assert str(found.held.subnet) == "9.0.7.0/24"
    with host.store.write() as tx:
        room.begin_leaving(tx, Leaving(held=found.held, agent_ip=AGENT))
        room.forget(tx, found.held)
    host.kernel.reconcile(lambda: wanted(host.records()))
    assert host.problems() == []
