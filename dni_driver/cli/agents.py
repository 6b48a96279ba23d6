# SPDX-License-Identifier: Apache-2.0
"""The agents of the cluster, as text for people."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import msgspec

from dni_driver.cli.tables import table
from dni_driver.core.cluster import AgentReport, ClusterReport

_TITLES = ("AGENT", "VTEP", "AGENT SUBNETS", "ALIVE", "SINCE", "PROBLEMS")
_SHOWN = 20
"""How many agents a status lists."""
_CELL = 40
"""How much of a problem a table shows."""


class Forgotten(msgspec.Struct, frozen=True):
    """What `dni agent forget` answers."""

    forgotten: str


def agents(reports: Sequence[AgentReport]) -> str:
    """Show agents, what they hold, and since when they live or are gone."""
    return table(_TITLES, [_row(report) for report in reports]) if reports else "No agent has joined yet."


def cluster(report: ClusterReport) -> str:
    """Show the agents of a cluster of more than one: those that are gone first, and not more than fit on a screen."""
    if len(report.agents) < 2 and report.problem is None:  # noqa: PLR2004 - this host alone
        return ""
    first = sorted(report.agents, key=lambda agent: agent.alive is not False)
    shown = agents(sorted(first[:_SHOWN], key=report.agents.index))
    left = len(report.agents) - _SHOWN
    more = f"and {left} more: dni agent ls" if left > 0 else ""
    return "\n".join(filter(None, [shown, more]))


def problems(report: ClusterReport) -> str:
    """Show what is wrong with other agents, each under its IP, as it told; not more of them than fit on a screen."""
    ill = [agent for agent in report.agents if agent.problems and not agent.here]
    left = len(ill) - _SHOWN
    more = f"and {left} more with problems: dni agent ls" if left > 0 else ""
    return "\n".join(filter(None, [*map(_complaints, ill[:_SHOWN]), more]))


def _complaints(report: AgentReport) -> str:
    gone = "" if report.alive else f", not alive, as it told last on {_date(report.as_of)}"
    lines = [f"{report.agent}{gone}:", *(f"  problem: {problem}" for problem in report.problems or ())]
    if report.more_problems:
        lines.append(f"  and {report.more_problems} more: dni status on that host")
    return "\n".join(lines)


def count(reports: Iterable[AgentReport]) -> str:
    """Say how many agents there are, and how many of them live: `3, 2 of them alive`."""
    alive = [report.alive for report in reports]
    if None in alive:
        return f"{len(alive)}; who is alive is not known"
    return f"{len(alive)}, {sum(map(bool, alive))} of them alive"


def forgotten(report: Forgotten) -> str:
    """Show what is gone."""
    return report.forgotten


def _row(report: AgentReport) -> tuple[object, ...]:
    name = f"{report.agent} (this)" if report.here else report.agent
    held = ", ".join(f"{one.overlay} {one.subnet}" for one in report.subnets)
    return name, report.vtep, held or None, _alive(report.alive), _since(report), _in_a_cell(report)


def _in_a_cell(report: AgentReport) -> str | None:
    """Say how many problems there are, and how the first begins."""
    if report.problems is None:
        return None
    number = len(report.problems) + report.more_problems
    first = next(iter(report.problems), "")
    cut = first if len(first) <= _CELL else f"{first[: _CELL - 1]}…"
    told = f"{number}: {cut}" if number else "none"
    return told if report.alive else f"{told}, as told last"


def _alive(alive: bool | None) -> str | None:  # noqa: FBT001 - what is to be put into words
    return None if alive is None else "yes" if alive else "no"


def _since(report: AgentReport) -> str | None:
    if report.since is None:
        return None
    date = _date(report.since)
    return date if report.alive else f"last seen {date}"


def _date(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
