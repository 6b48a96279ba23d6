# SPDX-License-Identifier: Apache-2.0
"""The agent counts what its host holds, and says in time that it runs out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from ipaddress import IPv4Address, ip_address, ip_network
from itertools import count
from pathlib import Path
from typing import Never

import pytest
from structlog.testing import capture_logs

from dni_driver.agent.fullness import Fullness
from dni_driver.agent.hearing import LATELY, Hearing
from dni_driver.agent.problems import Problems
from dni_driver.core.addresses.counts import Counts, HalfCounts, SubnetCounts, Told
from dni_driver.core.addresses.filling import half_report
from dni_driver.core.addresses.fullness import HALVES, Half
from dni_driver.core.data_plane.vteps import lowest_free
from dni_driver.core.errors import NotFound, Unavailable
from dni_driver.core.overlays import VTEP_SUBNET, Address, AgentSubnet
from dni_driver.core.peers import Peer
from dni_driver.core.records import AddressState
from dni_driver.registry import Host as NewAgent
from dni_driver.registry import Registry, open_registry
from dni_driver.store import Store, addresses, overlays, peers, pools
from tests.fakes import AGENT, DCOS, FakeClock
from tests.unit.agents import claim, frozen

OTHER = IPv4Address("192.0.2.77")


class Host:
    """A host that holds an agent subnet of dcos, and follows another that does."""

    def __init__(self, store: Store, directory: Path) -> None:
        """Have the first in the registry, and both in the store."""
        self.store = store
        self.clock = FakeClock()
        self.registry: Registry = open_registry("local", directory)
        self.registry.define(DCOS)
        self.registry.confirm(AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/24")), AGENT)
        self.registry.register(NewAgent(agent_ip=AGENT, identity="me", boot="b"))
        theirs = AgentSubnet(overlay="dcos", subnet=ip_network("9.0.1.0/24"))
        with store.write() as tx:
            peers.put(tx, [Peer(agent_ip=OTHER, vtep=lowest_free([], VTEP_SUBNET), subnets=(theirs,))])
            pools.use_overlay(tx, "dcos", 4, None, self.clock.now)
        self.cni = directory / "cni"
        self.fullness = Fullness(
            store, self.registry, Hearing(self.registry, self.clock), frozen(self.clock), [self.cni]
        )

    def fill(self, first: int, last: int) -> None:
        """Hand out addresses of the Docker half, by their last number."""
        for number in range(first, last + 1):
            claim(self.store, f"9.0.0.{number}", self.clock.now)

    def occupy(self, half: Half, number: int) -> None:
        """Have so many addresses of a half taken, and no more: by Docker's containers, or by those of host-local."""
        if half == "docker":
            self.empty(130, 254)
            self.fill(130, 129 + number)
            return
        shutil.rmtree(self.cni, ignore_errors=True)
        (self.cni / "dcos").mkdir(parents=True)
        for last in range(2, 2 + number):
            (self.cni / "dcos" / f"9.0.0.{last}").touch()

    def empty(self, first: int, last: int) -> None:
        """Take addresses back."""
        with self.store.write() as tx:
            for number in range(first, last + 1):
                addresses.free(tx, "dcos/v4", ip_address(f"9.0.0.{number}"), self.clock.now)


@pytest.fixture
def host(store: Store, tmp_path: Path) -> Iterator[Host]:
    host = Host(store, tmp_path)
    yield host
    host.registry.close()


def warned(host: Host) -> list[tuple[str, str, int]]:
    """Look once; answer what was warned of."""
    with capture_logs() as lines:
        host.fullness.look()
    return [
        (line["event"], line["half"], line["percent"])
        for line in lines
        if line["log_level"] == "warning" and line["overlay"] == "dcos"
    ]


def test_usage_tells_of_both_agents_and_dates_what_this_one_holds(host: Host) -> None:
    host.fullness.look()
    begun = host.clock.now
    host.clock.pass_by(3600)
    host.fullness.look()
    host.fill(130, 139)
    found = host.fullness.usage("dcos")
    (mine,), (theirs,) = (agent.subnets for agent in found.agents)
    assert (mine.subnet, mine.since, mine.docker.used, mine.docker.free) == ("9.0.0.0/24", begun, 10, 115)
    assert (theirs.subnet, theirs.since, theirs.docker.used) == ("9.0.1.0/24", None, None)
    assert found.problem is None
    assert [agent.as_of for agent in found.agents] == [host.clock.now, None]


def test_a_given_back_subnet_loses_its_date_and_a_new_one_is_dated(host: Host) -> None:
    host.fullness.look()
    host.clock.pass_by(60)
    with host.store.write() as tx:
        overlays.remove(tx, "dual")
        overlays.add_agent_subnet(tx, AgentSubnet(overlay="dcos", subnet=ip_network("9.0.7.0/24")))
    host.fullness.look()
    with host.store.read() as tx:
        keys = [row["key"] for row in tx.execute("SELECT key FROM meta WHERE key LIKE 'held%' ORDER BY key")]
    assert keys == ["held_since/9.0.0.0/24", "held_since/9.0.7.0/24"]
    first, second = host.fullness.usage("dcos").agents[0].subnets
    assert (first.since, second.since) == (host.clock.now - 60, host.clock.now)


def test_the_mesos_half_is_counted_from_what_host_local_wrote(host: Host) -> None:
    (host.cni / "dcos").mkdir(parents=True)
    for name in ("9.0.0.2", "9.0.0.3", "9.0.0.200", "lock", "last_reserved_ip.0"):
        (host.cni / "dcos" / name).touch()
    (subnet,) = host.fullness.usage("dcos").agents[0].subnets
    assert (subnet.mesos.used, subnet.mesos.free) == (2, 123)
    assert host.fullness.room("dcos", None, "mesos", 124).room is False


def test_a_mesos_half_that_cannot_be_read_is_a_problem_and_unknown(host: Host) -> None:
    host.cni.mkdir()
    (host.cni / "dcos").touch()
    (problem,) = host.fullness.look()
    assert problem == f"the Mesos half cannot be counted: {host.cni}/dcos cannot be read (Not a directory)"
    (subnet,) = host.fullness.usage("dcos").agents[0].subnets
    assert (subnet.mesos.used, subnet.mesos.why) == (None, problem)
    assert {load.half for load in host.fullness.loads() if load.overlay == "dcos"} == {"docker"}


@pytest.mark.parametrize("half", HALVES)
def test_eighty_percent_of_a_half_is_a_line_in_the_log_once_and_ninety_five_a_problem(host: Host, half: Half) -> None:
    host.occupy(half, 99)
    assert warned(host) == []
    host.occupy(half, 100)
    assert warned(host) == [("an overlay is filling up", half, 80)]
    assert warned(host) == []
    host.occupy(half, 95)
    assert warned(host) == []
    host.occupy(half, 100)
    assert warned(host) == []
    assert shown(host, half) == (80, 80)
    host.occupy(half, 119)
    (problem,) = host.fullness.look()
    text = f"the {half.capitalize()} half of overlay 'dcos' on this host is 95 % full or more (IPv4)"
    assert problem.startswith(text)
    assert shown(host, half) == (95, 95)
    host.occupy(half, 48)
    assert host.fullness.look() == []
    assert shown(host, half) == (38, None)
    host.occupy(half, 115)
    assert warned(host) == [("an overlay is filling up", half, 92)]


def shown(host: Host, half: Half) -> tuple[int, int | None]:
    """Answer how full a half is, and which level that is, as a status shows it."""
    (found,) = (one for one in map(half_report, host.fullness.loads()) if (one.overlay, one.half) == ("dcos", half))
    return found.percent, found.level


@pytest.mark.parametrize("half", HALVES)
def test_both_levels_of_a_half_are_in_the_log_of_an_agent_that_goes_round(host: Host, half: Half) -> None:
    problems = Problems()
    lines: list[str] = []
    for number in (100, 119, 119):
        host.occupy(half, number)
        with capture_logs() as logged:
            problems.report("filling", host.fullness.look())
        lines += [line.get("problem", f"{line.get('half')} {line.get('percent')}") for line in logged]
    first, second = lines
    assert first == f"{half} 80"
    assert second.startswith(f"the {half.capitalize()} half of overlay 'dcos' on this host is 95 % full or more")


def test_usage_of_an_overlay_nobody_knows_is_refused(host: Host) -> None:
    with pytest.raises(NotFound, match="there is no overlay 'none'"):
        host.fullness.usage("none")


def told(used: int) -> Counts:
    """Answer what the other agent tells."""
    half = HalfCounts(125, used, 0, 125 - used)
    return Counts(
        as_of=5.0, subnets=(SubnetCounts(overlay="dcos", subnet="9.0.1.0/24", since=1.0, mesos=half, docker=half),)
    )


def hear(host: Host, monkeypatch: pytest.MonkeyPatch, say: Callable[[], Told | None]) -> list[list[Address]]:
    """Have the other agent tell what `say` answers; answer who is asked for."""
    asked: list[list[Address]] = []

    def answer(agents: Collection[Address]) -> dict[Address, Told]:
        asked.append(list(agents))
        said = say()
        return {OTHER: said} if said is not None and OTHER in agents else {}

    monkeypatch.setattr(host.registry, "told", answer)
    return asked


def test_usage_asks_for_others_once_in_some_seconds_and_room_for_one_at_once(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = count(1)
    asked = hear(host, monkeypatch, lambda: told(next(used)))
    for _ in range(3):
        (subnet,) = host.fullness.usage("dcos").agents[1].subnets
        assert (subnet.docker.used, subnet.since) == (1, 1.0)
    host.clock.pass_by(LATELY)
    assert host.fullness.usage("dcos").agents[1].subnets[0].docker.used == 2
    answers = [host.fullness.room("dcos", OTHER, "docker", 122).room for _ in range(2)]
    assert answers == [True, False]
    assert asked == [[OTHER]] * 2 + [[OTHER]] * 2


def test_agents_that_are_nobody_are_not_remembered(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    hear(host, monkeypatch, lambda: told(1))
    stranger = IPv4Address("192.0.2.99")
    assert host.fullness.room("dcos", stranger, "docker", 1).room is False
    heard = host.fullness._hearing._heard  # noqa: SLF001 - what is kept
    assert stranger not in heard
    host.fullness.room("dcos", OTHER, "docker", 1)
    assert OTHER in heard


def test_room_on_this_host_asks_the_registry_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hear(host, monkeypatch, lambda: None)
    found = host.fullness.room("dcos", AGENT, "docker", 1)
    assert (found.room, found.as_of, host.fullness.room("dcos", None, "docker", 125).room) == (
        True,
        host.clock.now,
        True,
    )
    assert asked == []


def test_nothing_that_grows_with_what_agents_hold_is_read_from_the_registry(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    for name in ("members", "leases", "overlays"):
        monkeypatch.setattr(host.registry, name, lambda *_, name=name: read.append(name))
    monkeypatch.setattr(host.registry, "alive", lambda: frozenset([OTHER]))
    host.fullness.usage("dcos")
    host.fullness.room("dcos", OTHER, "docker", 1)
    cluster = host.fullness.cluster()
    assert cluster is not None
    assert (cluster.alive, cluster.lost) == (1, 1)
    assert read == []


def away() -> Never:
    raise Unavailable("ZooKeeper does not answer")


def test_while_the_registry_is_away_other_agents_are_as_they_told_last_and_that_is_said(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    hear(host, monkeypatch, lambda: told(100))
    host.fullness.usage("dcos")
    host.clock.pass_by(LATELY)
    asked = hear(host, monkeypatch, away)
    found = host.fullness.usage("dcos")
    problem = "of other agents nothing new is known: ZooKeeper does not answer"
    assert [(agent.agent, agent.as_of) for agent in found.agents] == [(str(AGENT), host.clock.now), (str(OTHER), 5.0)]
    assert (found.problem, found.agents[1].subnets[0].docker.free) == (problem, 25)
    room = host.fullness.room("dcos", OTHER, "docker", 26)
    assert (room.room, room.free, room.as_of) == (False, 25, 5.0)
    assert host.fullness.room("dcos", AGENT, "docker", 125).room is True
    assert len(asked) == 1, "who asks next does not wait for the registry again"


def test_while_the_registry_is_away_what_was_never_heard_is_null_with_the_reason(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    hear(host, monkeypatch, away)
    monkeypatch.setattr(host.registry, "alive", away)
    (subnet,) = host.fullness.usage("dcos").agents[1].subnets
    problem = "of other agents nothing new is known: ZooKeeper does not answer"
    why = f"it is not known how full agent 192.0.2.77 is; {problem}"
    assert (subnet.docker.used, subnet.docker.why) == (None, why)
    asked = host.fullness.room("dcos", OTHER, "docker", 1)
    assert (asked.room, asked.free, asked.as_of, asked.why) == (None, None, None, why)
    assert host.fullness.cluster() is None


def test_an_agent_that_is_forgotten_is_not_remembered_as_it_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    hear(host, monkeypatch, lambda: told(100))
    host.fullness.usage("dcos")
    host.clock.pass_by(LATELY)
    hear(host, monkeypatch, lambda: None)
    found = host.fullness.usage("dcos").agents[1]
    assert (found.as_of, found.subnets[0].docker.free) == (None, None)


def test_leases_are_counted_by_holder(host: Host) -> None:
    cluster = host.fullness.cluster()
    assert cluster is not None
    assert (cluster.alive, cluster.lost) == (1, 1)
    assert {(one.overlay, one.here, one.count) for one in cluster.leases} == {
        ("dcos", True, 1),
        ("dual", True, 1),
        ("dcos", False, 1),
    }


def test_a_reserved_gateway_is_not_free(host: Host) -> None:
    claim(host.store, "9.0.0.130", host.clock.now, AddressState.RESERVED)
    (subnet,) = host.fullness.usage("dcos").agents[0].subnets
    assert (subnet.docker.used, subnet.docker.reserved, subnet.docker.free) == (0, 1, 124)
