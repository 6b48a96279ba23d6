# SPDX-License-Identifier: Apache-2.0
"""An agent tells how full it is: soon after a change, seldom, and not in vain."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from dni_driver.agent.fullness import Fullness
from dni_driver.agent.hearing import Hearing
from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.agent.problems import Problems
from dni_driver.agent.telling import Telling
from dni_driver.core.addresses.counts import Counts, HalfCounts
from dni_driver.core.addresses.telling import EVERY, LOOKS
from dni_driver.core.data_plane.vteps import lowest_free
from dni_driver.core.errors import Unavailable
from dni_driver.core.overlays import VTEP_SUBNET, Address
from dni_driver.core.peers import Peer
from dni_driver.core.problems import InShort
from dni_driver.registry import Registry, open_registry
from dni_driver.store import Store, peers, pools
from tests.fakes import AGENT, DCOS, FakeClock
from tests.unit.agents import claim, frozen

OTHER = IPv4Address("192.0.2.20")
VTEP = lowest_free([], VTEP_SUBNET)


class _Noting:
    """A registry that notes what it is told, and cannot be told anything while `away`."""

    def __init__(self, registry: Registry) -> None:
        """Pass everything on."""
        self._registry = registry
        self.away = False
        self.said: list[int] = []

    def tell(self, agent_ip: Address, counts: Counts) -> None:
        """Note how many addresses the Docker half of dcos has handed out."""
        if self.away:
            raise Unavailable("the registry does not answer")
        (half,) = (one.docker for one in counts.subnets if one.overlay == "dcos")
        assert isinstance(half, HalfCounts)
        self.said.append(half.used)
        self._registry.tell(agent_ip, counts)

    def __getattr__(self, name: str) -> Any:
        """Answer what the registry can do."""
        return getattr(self._registry, name)


class Here:
    """A host whose agent may join."""

    def __init__(self, store: Store, directory: Path) -> None:
        """Hold what the store says."""
        self.store = store
        self.clock = FakeClock()
        self.cni = directory / "cni"
        self.registry = _Noting(open_registry("local", directory))
        self.joining = Joining(store, self.registry, Identity(store, lambda: AGENT, None, None), DCOS, self.clock)
        time = frozen(self.clock)
        fullness = Fullness(store, self.registry, Hearing(self.registry, self.clock), time, [self.cni])
        self.problems = Problems()
        self.telling = Telling(store, self.registry, self.joining, fullness, self.problems, time)
        self.be_among([OTHER])
        with store.write() as tx:
            pools.use_overlay(tx, "dcos", 4, None, self.clock.now)

    def be_among(self, others: list[Address]) -> None:
        """Know other agents, and no more than these."""
        with self.store.write() as tx:
            peers.put(tx, [Peer(agent_ip=one, vtep=VTEP, subnets=()) for one in others])
            peers.keep_only(tx, others)

    def told(self) -> tuple[str, ...]:
        """Answer the problems that others read now."""
        counts = self.registry.told([AGENT])[AGENT]
        assert isinstance(counts, Counts)
        assert counts.problems is not None
        return counts.problems.lines

    def look(self, seconds: float = 0.0) -> list[int]:
        """Look once a while later; answer all that was told until then."""
        self.clock.pass_by(seconds)
        assert self.telling.look() == ()
        return self.registry.said

    def take(self, number: int) -> None:
        """Hand out an address, by its last number."""
        claim(self.store, f"9.0.0.{number}", self.clock.now)


@pytest.fixture
def here(store: Store, tmp_path: Path) -> Iterator[Here]:
    made = Here(store, tmp_path)
    yield made
    made.registry.close()


def test_who_has_not_joined_tells_nothing_and_then_all_at_once(here: Here) -> None:
    assert here.look() == []
    here.joining.join()
    assert here.look() == [0]
    said = here.registry.said
    ((agent, counts),) = here.registry.told([AGENT]).items()
    assert (agent, said) == (AGENT, [0])
    assert isinstance(counts, Counts)
    assert (counts.as_of, {one.overlay for one in counts.subnets}) == (here.clock.now, {"dcos", "dual"})
    assert {one.since for one in counts.subnets} == {here.clock.now}


def test_the_first_change_is_told_at_the_next_look_and_those_after_it_together(here: Here) -> None:
    here.joining.join()
    here.look()
    here.clock.pass_by(EVERY)
    here.look()
    here.registry.said.clear()
    for number in range(130, 134):
        here.take(number)
        here.look(1.0)
    assert here.registry.said == [1]
    assert here.look(EVERY) == [1, 4]
    assert here.look(1.0) == [1, 4]


def test_a_mesos_half_that_fills_up_is_told_though_the_store_does_not_change(here: Here) -> None:
    here.joining.join()
    here.look()
    (here.cni / "dcos").mkdir(parents=True)
    (here.cni / "dcos" / "9.0.0.2").touch()
    here.look(LOOKS)
    (counts,) = here.registry.told([AGENT]).values()
    assert isinstance(counts, Counts)
    assert next(one.mesos for one in counts.subnets if one.overlay == "dcos") == HalfCounts(125, 1, 0, 124)


def test_what_could_not_be_told_is_told_when_the_registry_is_back(here: Here) -> None:
    here.joining.join()
    here.look()
    here.clock.pass_by(EVERY)
    here.take(130)
    here.registry.away = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            here.look(1.0)
    here.registry.away = False
    assert here.look(1.0) == [0, 1]


def test_an_agent_that_was_forgotten_tells_again_when_it_is_one_again(here: Here) -> None:
    here.joining.join()
    here.look()
    here.registry.close()  # its life is over
    here.registry.forget(AGENT)
    here.take(130)
    here.look(EVERY)
    assert here.registry.told([AGENT]) == {}
    here.joining.join()
    here.look(1.0)
    assert AGENT in here.registry.told([AGENT])


def test_what_is_wrong_is_told_when_it_begins_and_when_it_is_over_and_not_in_between(here: Here) -> None:
    here.joining.join()
    here.look()
    assert here.told() == ()
    here.problems.report("docker", ["dockerd does not answer"])
    here.look(EVERY)
    assert (here.told(), here.registry.said) == (("dockerd does not answer",), [0, 0])
    written = here.registry.told([AGENT])
    here.problems.report("docker", ["dockerd does not answer"])
    for _ in range(10):
        here.look(LOOKS)
    assert here.registry.told([AGENT]) == written, "as of when it began"
    here.problems.report("docker", [])
    here.look(EVERY)
    assert here.told() == ()


def test_problems_that_come_and_go_are_told_no_oftener_than_all_else(here: Here) -> None:
    here.joining.join()
    here.look()
    for number in range(20):
        here.problems.report("docker", [f"trouble number {number}"])
        here.look(1.0)
    assert len(here.registry.said) == 1 + 20 // EVERY
    here.look(EVERY)
    assert here.told() == ("trouble number 19",)


def test_that_the_registry_was_away_is_not_told_when_it_is_back(here: Here) -> None:
    here.joining.join()
    here.look()
    here.clock.pass_by(EVERY)
    here.registry.away = True
    away = "the registry does not answer"
    here.problems.report("registry", [away])
    here.problems.report("cluster", [f"overlay 'dcos': {away}", "and another thing"])
    with pytest.raises(Unavailable):
        here.look()
    here.registry.away = False
    here.look(1.0)
    assert here.told() == ("and another thing",)
    here.problems.report("registry", [])
    here.problems.report("cluster", ["and another thing"])
    before = len(here.registry.said)
    here.look(EVERY)
    assert len(here.registry.said) == before, "nothing was to be told again"
    here.problems.report("registry", [away])
    here.look(EVERY)
    assert here.told() == (away, "and another thing"), "one that begins later is told by who can"


def test_who_is_alone_counts_nothing_and_tells_nobody_until_another_comes(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.joining.join()
    here.be_among([])
    counted: list[Address] = []
    count = Fullness.counts

    def counting(fullness: Fullness, problems: InShort) -> Counts:
        counted.append(AGENT)
        return count(fullness, problems)

    monkeypatch.setattr(Fullness, "counts", counting)
    here.problems.report("docker", ["dockerd does not answer"])
    for number in range(130, 134):
        here.take(number)
        assert here.look(LOOKS) == []
    assert counted == []
    here.be_among([OTHER])
    assert here.look() == [4]
    assert here.told() == ("dockerd does not answer",)
