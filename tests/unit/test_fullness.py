# SPDX-License-Identifier: Apache-2.0
"""How full an overlay is, agent by agent, and whether some more containers fit."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network

import msgspec
import pytest

from dni_driver.core.addresses.counts import Counts, HalfCounts, Heard, SubnetCounts, Told
from dni_driver.core.addresses.filling import Load, half_report, loads
from dni_driver.core.addresses.fullness import Holding, Local, Occupied, OverlayUsage, overlay_usage, room
from dni_driver.core.overlays import Address, AgentSubnet
from dni_driver.core.records import AddressState, PoolRecord, Records, ReservationRecord
from tests.unit.scene import LONG_AGO, NOW, POOL, address, records

ME = IPv4Address("192.0.2.10")
OTHER = IPv4Address("192.0.2.20")
THIRD = IPv4Address("192.0.2.3")


def held(subnet: str, overlay: str = "dcos") -> AgentSubnet:
    return AgentSubnet(overlay=overlay, subnet=ip_network(subnet))


def local(occupied: Occupied = frozenset(), **changed: object) -> Local:
    return Local(records=records(agent=ME, **changed), occupied={"dcos": occupied}, since={"9.0.0.0/24": NOW - 100})


def usage(known: Local, *holdings: Holding, problem: str | None = None) -> OverlayUsage:
    return overlay_usage("dcos", known, holdings, Heard(problem=problem), NOW)


def others() -> list[Holding]:
    return [
        Holding(agent=OTHER, held=held("9.0.1.0/24")),
        Holding(agent=THIRD, held=held("9.0.2.0/24")),
        Holding(agent=OTHER, held=held("9.0.3.0/24")),
        Holding(agent=OTHER, held=held("10.0.0.0/24", "dev")),
        Holding(agent=ME, held=held("9.0.0.0/24")),
    ]


def test_this_hosts_halves_are_counted_and_dated() -> None:
    (me,) = usage(local()).agents
    (subnet,) = me.subnets
    assert (me.agent, me.here, subnet.subnet, subnet.since) == ("192.0.2.10", True, "9.0.0.0/24", NOW - 100)
    docker, mesos = subnet.docker, subnet.mesos
    assert (docker.half, docker.size, docker.used, docker.reserved, docker.free) == ("9.0.0.128/25", 125, 2, 0, 123)
    assert (mesos.half, mesos.size, mesos.used, mesos.reserved, mesos.free) == ("9.0.0.0/25", 125, 0, 0, 125)


def test_what_is_kept_back_is_reserved_and_not_free() -> None:
    kept = ReservationRecord(overlay="dcos", first=ip_address("9.0.0.200"), last=ip_address("9.0.0.209"))
    docker = usage(local(reservations=[kept])).agents[0].subnets[0].docker
    assert (docker.used, docker.reserved, docker.free) == (2, 10, 113)


def test_the_mesos_half_has_what_host_local_and_dni_itself_handed_out_there_once_each() -> None:
    mesos_pool = PoolRecord(id="dcos/m4", family=4, overlay="dcos", uses=1, since=LONG_AGO)
    recorded = [
        address("9.0.0.5", AddressState.CLAIMED, pool="dcos/m4"),
        address("9.0.0.6", AddressState.FREE, pool="dcos/m4"),
        address("10.5.0.2", pool="plain/10.5.0.0/24"),
    ]
    taken = frozenset(map(ip_address, ["9.0.0.5", "9.0.0.7", "9.0.0.1", "9.0.0.127", "9.0.0.130", "fd00::1"]))
    known = local(taken, pools=[*records().pools, mesos_pool], addresses=recorded)
    mesos = usage(known).agents[0].subnets[0].mesos
    assert (mesos.used, mesos.free) == (2, 123)


def test_what_is_kept_back_of_the_mesos_half_is_reserved_there_and_not_in_the_docker_half() -> None:
    kept = ReservationRecord(overlay="dcos", first=ip_address("9.0.0.10"), last=ip_address("9.0.0.19"))
    taken = frozenset(map(ip_address, ["9.0.0.10", "9.0.0.30"]))
    subnet = usage(local(taken, reservations=[kept])).agents[0].subnets[0]
    assert (subnet.mesos.used, subnet.mesos.reserved, subnet.mesos.free) == (2, 9, 114)
    assert (subnet.docker.reserved, subnet.docker.free) == (0, 123)


def test_a_mesos_half_that_cannot_be_counted_says_why_and_keeps_its_size() -> None:
    mesos = usage(local("it cannot be read")).agents[0].subnets[0].mesos
    assert (mesos.size, mesos.used, mesos.free, mesos.why) == (125, None, None, "it cannot be read")


def test_other_agents_follow_in_order_with_what_the_registry_tells_of_them() -> None:
    me, third, other = usage(local(), *others()).agents
    assert (me.here, third.here, other.here) == (True, False, False)
    assert [third.agent, other.agent] == ["192.0.2.3", "192.0.2.20"]
    assert [subnet.subnet for subnet in other.subnets] == ["9.0.1.0/24", "9.0.3.0/24"]
    docker = other.subnets[0].docker
    assert (docker.size, docker.used, docker.free) == (125, None, None)
    assert docker.why == "agent 192.0.2.20 has not told yet how full it is: ask there (dni overlay usage)"
    assert (me.as_of, other.as_of) == (NOW, None)


def told(subnet: str, used: int, mesos: HalfCounts | str = HalfCounts(125, 3, 0, 122)) -> Counts:  # noqa: B008 - frozen
    docker = HalfCounts(125, used, 1, 124 - used)
    counted = SubnetCounts(overlay="dcos", subnet=subnet, since=NOW - 500, mesos=mesos, docker=docker)
    return Counts(as_of=NOW - 7, subnets=(counted,))


def heard_of(agent: Address, said: Told) -> OverlayUsage:
    return overlay_usage("dcos", local(), others(), Heard(told={agent: said}), NOW)


def test_another_agent_is_as_full_as_it_told_last() -> None:
    _, third, other = heard_of(OTHER, told("9.0.1.0/24", 20)).agents
    counted, untold = other.subnets
    assert (other.as_of, counted.since) == (NOW - 7, NOW - 500)
    docker, mesos = counted.docker, counted.mesos
    assert (docker.half, docker.size, docker.used, docker.reserved, docker.free) == ("9.0.1.128/25", 125, 20, 1, 104)
    assert (mesos.half, mesos.size, mesos.used, mesos.free, mesos.why) == ("9.0.1.0/25", 125, 3, 122, None)
    assert (untold.docker.size, untold.docker.free) == (125, None)
    assert untold.docker.why == "agent 192.0.2.20 has not told of 9.0.3.0/24 yet: ask again in a moment"
    assert (third.as_of, third.subnets[0].docker.free) == (None, None)


def test_what_another_agent_could_not_count_it_says_why() -> None:
    subnet = heard_of(OTHER, told("9.0.1.0/24", 20, mesos="it cannot be read")).agents[2].subnets[0]
    assert (subnet.mesos.size, subnet.mesos.free, subnet.mesos.why) == (125, None, "it cannot be read")
    assert subnet.docker.free == 104


def test_another_agent_whose_telling_cannot_be_read_is_listed_and_says_why() -> None:
    found = heard_of(OTHER, "was written by a newer dni (version 2)")
    assert [agent.agent for agent in found.agents] == [str(ME), str(THIRD), str(OTHER)]
    docker = found.agents[2].subnets[0].docker
    text = "what agent 192.0.2.20 told was written by a newer dni (version 2): ask there (dni overlay usage)"
    assert (docker.size, docker.free, docker.why) == (125, None, text)


def test_counts_of_another_overlay_with_the_same_subnet_are_not_taken_for_this_ones() -> None:
    counted = msgspec.structs.replace(told("9.0.1.0/24", 20).subnets[0], overlay="dev")
    found = heard_of(OTHER, Counts(as_of=NOW, subnets=(counted,)))
    assert found.agents[2].subnets[0].docker.free is None


def test_a_host_that_holds_nothing_yet_is_listed_empty() -> None:
    found = usage(local(agent_subnets=[]), problem="the registry does not answer")
    assert found.agents[0].subnets == []
    assert found.problem == "the registry does not answer"


def answered(found: OverlayUsage, agent: Address | None, count: int) -> tuple[bool | None, int | None, str]:
    asked = room(found, str(agent) if agent else None, "docker", count)
    return asked.room, asked.free, asked.why


def test_room_is_there_for_as_many_as_are_free_and_no_more() -> None:
    why = "123 free in the Docker half of agent 192.0.2.10: 2 of 125 used and 0 reserved in 9.0.0.128/25"
    assert answered(usage(local()), None, 123) == (True, 123, why)
    assert answered(usage(local()), ME, 124) == (False, 123, why)
    mesos = room(usage(local(frozenset({ip_address("9.0.0.2")}))), None, "mesos", 125)
    assert (mesos.room, mesos.free, mesos.agent) == (False, 124, "192.0.2.10")


def test_room_on_two_agent_subnets_is_added_up() -> None:
    found = usage(local(agent_subnets=[held("9.0.0.0/24"), held("9.0.7.0/24")]))
    assert answered(found, ME, 200)[:2] == (True, 248)


def test_a_container_needs_an_address_of_every_family() -> None:
    subnets = [held("9.0.0.0/24"), held("fd01::/125")]
    assert answered(usage(local(agent_subnets=subnets)), None, 3)[:2] == (False, 2)


def test_whether_an_agent_that_told_nothing_has_room_is_not_guessed() -> None:
    why = "agent 192.0.2.20 has not told yet how full it is: ask there (dni overlay usage)"
    assert answered(usage(local(), *others()), OTHER, 1) == (None, None, why)


def test_whether_another_agent_has_room_is_answered_as_of_when_it_told() -> None:
    found = overlay_usage("dcos", local(), others()[:1], Heard(told={OTHER: told("9.0.1.0/24", 120)}), NOW)
    why = "4 free in the Docker half of agent 192.0.2.20: 120 of 125 used and 1 reserved in 9.0.1.128/25"
    assert answered(found, OTHER, 4) == (True, 4, why)
    assert answered(found, OTHER, 5) == (False, 4, why)
    assert room(found, str(OTHER), "docker", 1).as_of == NOW - 7
    assert room(found, None, "docker", 1).as_of == NOW
    assert room(found, str(OTHER), "mesos", 122).room is True


def test_an_agent_without_an_agent_subnet_has_no_room() -> None:
    stranger = IPv4Address("192.0.2.99")
    nothing = "agent 192.0.2.99 holds no agent subnet of overlay 'dcos'"
    assert answered(usage(local(), *others()), stranger, 1) == (False, 0, nothing)
    unsure = usage(local(), problem="the registry does not answer")
    assert answered(unsure, stranger, 1) == (
        None,
        None,
        "it is not known what agent 192.0.2.99 holds; the registry does not answer",
    )


def test_a_mesos_half_that_cannot_be_counted_has_room_nobody_knows_of() -> None:
    asked = room(usage(local("it cannot be read")), None, "mesos", 1)
    assert (asked.room, asked.why) == (None, "it cannot be read")


def _load(found: list[Load], half: str) -> Load:
    return next(load for load in found if load.half == half)


def test_loads_are_added_up_over_agent_subnets_by_half_and_family() -> None:
    kept = ReservationRecord(overlay="dcos", first=ip_address("9.0.0.200"), last=ip_address("9.0.0.202"))
    subnets = [held("9.0.0.0/24"), held("9.0.1.0/24"), held("fd01::/80")]
    found = loads(local(frozenset({ip_address("9.0.0.2")}), agent_subnets=subnets, reservations=[kept]))
    assert [(load.half, load.family) for load in found] == [("mesos", 4), ("docker", 4), ("mesos", 6), ("docker", 6)]
    docker, mesos = _load(found, "docker"), _load(found, "mesos")
    assert (docker.size, docker.used, docker.reserved, docker.free) == (250, 2, 3, 245)
    assert (mesos.size, mesos.used, mesos.free) == (250, 1, 249)


def test_what_cannot_be_counted_has_no_load() -> None:
    assert [load.half for load in loads(local("it cannot be read"))] == ["docker"]


@pytest.mark.parametrize(
    ("used", "percent", "level"),
    [(0, 0, None), (99, 79, None), (100, 80, 80), (118, 94, 80), (119, 95, 95), (125, 100, 95)],
)
def test_a_half_is_reported_with_its_percentage_and_the_level_that_it_is_at(
    used: int, percent: int, level: int | None
) -> None:
    found = half_report(Load(overlay="dcos", half="mesos", family=4, size=125, used=used, reserved=0))
    assert (found.half, found.free, found.percent, found.level) == ("mesos", 125 - used, percent, level)


def test_records_without_pools_of_an_overlay_count_nothing() -> None:
    bare = Records(overlays=[], agent_subnets=[held("9.0.0.0/24")], pools=[], addresses=[], networks=[], endpoints=[])
    found = overlay_usage("dcos", Local(records=bare, occupied={}, since={}), [], Heard(), NOW)
    assert found.agents[0].agent == "this host"
    assert found.agents[0].subnets[0].docker.free == 125
    assert POOL not in {pool.id for pool in bare.pools}
