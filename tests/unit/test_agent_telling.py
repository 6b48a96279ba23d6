# SPDX-License-Identifier: Apache-2.0
"""An agent tells how full it is: soon after a change, seldom, and not in vain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dni_driver.agent.fullness import Fullness
from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.agent.telling import Telling
from dni_driver.core.addresses.counts import Counts, HalfCounts
from dni_driver.core.addresses.telling import EVERY, LOOKS
from dni_driver.core.errors import Unavailable
from dni_driver.core.overlays import Address
from dni_driver.registry import Registry, open_registry
from dni_driver.store import Store, pools
from tests.fakes import AGENT, DCOS, FakeClock
from tests.unit.agents import claim, frozen


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
        fullness = Fullness(store, self.registry, time, [self.cni])
        self.telling = Telling(store, self.registry, self.joining, fullness, time)
        with store.write() as tx:
            pools.use_overlay(tx, "dcos", 4, None, self.clock.now)

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
