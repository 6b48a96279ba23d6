# SPDX-License-Identifier: Apache-2.0
"""What people read of the agents of a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest

from dni_driver.cli.agents import agents, cluster, count, problems
from dni_driver.core.cluster import AgentReport, ClusterReport, HeldReport

NOON = 1_790_000_000.0


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as zone:
        zone.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def report(number: int, alive: bool | None = True, since: float | None = NOON, here: bool = False) -> AgentReport:  # noqa: FBT001, FBT002 - as it has it
    held = [HeldReport(overlay="dcos", subnet=f"9.0.{number}.0/24")] if number else []
    return AgentReport(
        agent=f"10.0.0.{number}", vtep=f"44.128.0.{number}", subnets=held, alive=alive, since=since, here=here
    )


def test_agents_are_listed_with_what_they_hold_and_since_when_they_live_or_are_gone() -> None:
    rows = [report(1, here=True), report(2, alive=False), report(3, alive=None, since=None), report(0)]
    assert agents(rows).splitlines() == [
        "AGENT            VTEP        AGENT SUBNETS    ALIVE  SINCE                          PROBLEMS",
        "10.0.0.1 (this)  44.128.0.1  dcos 9.0.1.0/24  yes    2026-09-21 14:13:20            -",
        "10.0.0.2         44.128.0.2  dcos 9.0.2.0/24  no     last seen 2026-09-21 14:13:20  -",
        "10.0.0.3         44.128.0.3  dcos 9.0.3.0/24  -      -                              -",
        "10.0.0.0         44.128.0.0  -                yes    2026-09-21 14:13:20            -",
    ]
    assert agents([]) == "No agent has joined yet."


def test_a_status_shows_a_screenful_of_agents_those_that_are_gone_among_them() -> None:
    crowd = [report(number, alive=number != 30) for number in range(1, 31)]
    lines = cluster(ClusterReport(agents=crowd)).splitlines()
    assert len(lines) == 22
    assert lines[-2].startswith("10.0.0.30 ")
    assert lines[-1] == "and 10 more: dni agent ls"
    assert cluster(ClusterReport(agents=crowd[:1])) == "", "a host alone is no cluster"


def test_how_many_live_is_counted_and_not_guessed() -> None:
    assert count([report(1), report(2, alive=False)]) == "2, 1 of them alive"
    assert count([report(1), report(2, alive=None)]) == "2; who is alive is not known"


def ill(one: AgentReport, *said: str, more: int = 0) -> AgentReport:
    return msgspec.structs.replace(one, problems=list(said), more_problems=more, as_of=NOON - 60)


DOCKER = "dockerd does not answer at /run/docker.sock: start it"


def test_a_list_says_of_each_agent_how_much_is_wrong_with_it_and_what_first() -> None:
    rows = [
        ill(report(1)),
        ill(report(2), DOCKER, "no bridge"),
        ill(report(3, alive=False), "no bridge", more=2),
        ill(report(4, alive=False)),
    ]
    assert [line.partition("14:13:20")[2].strip() for line in agents(rows).splitlines()[1:]] == [
        "none",
        "2: dockerd does not answer at /run/docker.…",
        "3: no bridge, as told last",
        "none, as told last",
    ]


def test_a_status_has_the_problems_of_other_agents_under_their_ip_and_says_which_word_is_an_old_one() -> None:
    crowd = [
        ill(report(1, here=True), "shown anyway"),
        ill(report(2), DOCKER, "no bridge", more=3),
        ill(report(3)),
        ill(report(4, alive=False), "no bridge"),
        report(5),
    ]
    assert problems(ClusterReport(agents=crowd)).splitlines() == [
        "10.0.0.2:",
        f"  problem: {DOCKER}",
        "  problem: no bridge",
        "  and 3 more: dni status on that host",
        "10.0.0.4, not alive, as it told last on 2026-09-21 14:12:20:",
        "  problem: no bridge",
    ]
    many = [ill(report(number), "no bridge") for number in range(1, 31)]
    assert problems(ClusterReport(agents=many)).splitlines()[-1] == "and 10 more with problems: dni agent ls"
    assert problems(ClusterReport(agents=[report(1), ill(report(2))])) == ""
