# SPDX-License-Identifier: Apache-2.0
"""What an agent answers of the others: what the registry says, and what they told of themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dni_driver.agent.cluster import Cluster
from dni_driver.agent.hearing import Hearing
from dni_driver.agent.problems import Problems
from dni_driver.core.addresses import counts as codec
from dni_driver.core.addresses.counts import Counts, Told
from dni_driver.core.cluster import AgentReport
from dni_driver.core.errors import Refused
from dni_driver.core.overlays import Address
from dni_driver.core.problems import LENGTH, InShort
from dni_driver.registry import Host
from dni_driver.registry.local import LocalRegistry
from dni_driver.store import Store, overlays
from tests.fakes import AGENT, FakeClock

OTHER = IPv4Address("192.0.2.20")


class _Registry(LocalRegistry):
    """A registry that answers `said` of whoever is asked about, or refuses to."""

    said: Told | None = None
    refuses = False

    def told(self, agents: Collection[Address]) -> dict[Address, Told]:
        """Answer it."""
        if self.refuses:
            raise Refused("Mesos tells an agent of no other")
        return dict.fromkeys(agents, self.said) if self.said is not None else {}


class _Here:
    """A host that knows another one."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.registry = _Registry(directory / "registry.db")
        for agent in (AGENT, OTHER):
            self.registry.register(Host(agent_ip=agent, identity=str(agent), boot="b"))
        with store.write() as tx:
            overlays.set_agent_ip(tx, AGENT)
        self.problems = Problems()
        self._clock = FakeClock()
        self._cluster = Cluster(store, self.registry, Hearing(self.registry, self._clock), self.problems)

    def reports(self) -> tuple[AgentReport, AgentReport]:
        """Answer what is said of this host, and of the other, some time later."""
        self._clock.pass_by(60.0)
        here, there = sorted(self._cluster.agents(), key=lambda report: not report.here)
        return here, there


@pytest.fixture
def here(store: Store, tmp_path: Path) -> Iterator[_Here]:
    made = _Here(store, tmp_path)
    yield made
    made.registry.close()


def test_an_agent_answers_its_own_problems_of_now_and_those_of_others_as_they_told(here: _Here) -> None:
    here.problems.report("docker", ["dockerd does not answer"] + [f"trouble number {number}" for number in range(9)])
    here.registry.said = Counts(as_of=7.0, problems=InShort(lines=("no bridge",), more=2))
    mine, theirs = here.reports()
    assert (mine.problems, mine.more_problems, mine.as_of) == (
        ["dockerd does not answer", *(f"trouble number {number}" for number in range(4))],
        5,
        None,
    )
    assert (theirs.problems, theirs.more_problems, theirs.as_of) == (["no bridge"], 2, 7.0)
    here.problems.report("docker", [])
    here.registry.said = Counts(as_of=8.0, problems=InShort())
    assert [(one.problems, one.more_problems) for one in here.reports()] == [([], 0), ([], 0)]


@pytest.mark.parametrize(
    "said",
    [
        None,
        codec.read(b'{"version":1,"counts":{"as_of":1.5,"subnets":[]}}'),
        codec.read(b'{"version":2,"counts":[]}'),
        codec.read(b"rubbish"),
    ],
)
def test_of_who_told_nothing_of_problems_or_nothing_that_is_understood_they_are_not_known(
    here: _Here, said: Told | None
) -> None:
    here.registry.said = said
    mine, theirs = here.reports()
    assert (mine.problems, theirs.problems, theirs.as_of, theirs.alive) == ([], None, None, True)


def test_where_the_registry_tells_nothing_of_others_they_are_listed_all_the_same(here: _Here) -> None:
    here.registry.refuses = True
    mine, theirs = here.reports()
    assert (mine.problems, theirs.problems, theirs.agent) == ([], None, str(OTHER))


def test_what_somebody_else_wrote_into_the_registry_is_cut_to_what_an_agent_would_say(here: _Here) -> None:
    here.registry.said = Counts(as_of=1.0, problems=InShort(lines=("\x1b[2J" + "x" * 9999,) * 50, more=1))
    _, theirs = here.reports()
    assert theirs.problems is not None
    assert [len(problem) for problem in theirs.problems] == [LENGTH] * 5
    assert (theirs.more_problems, "\x1b" in theirs.problems[0]) == (46, False)
