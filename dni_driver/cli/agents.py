# SPDX-License-Identifier: Apache-2.0
"""The agents of the cluster, as text for people."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import msgspec

from dni_driver.cli.tables import table
from dni_driver.core.cluster import AgentReport, ClusterReport

_TITLES = ("AGENT", "VTEP", "AGENT SUBNETS", "ALIVE", "SINCE")
_SHOWN = 20
"""How many agents a status lists."""


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
    return name, report.vtep, held or None, _alive(report.alive), _since(report)


def _alive(alive: bool | None) -> str | None:  # noqa: FBT001 - what is to be put into words
    return None if alive is None else "yes" if alive else "no"


def _since(report: AgentReport) -> str | None:
    if report.since is None:
        return None
    date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.since))
    return date if report.alive else f"last seen {date}"
