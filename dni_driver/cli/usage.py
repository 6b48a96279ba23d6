# SPDX-License-Identifier: Apache-2.0
"""How full an overlay is, as text for people."""

from __future__ import annotations

import time
from collections.abc import Iterator

from dni_driver.cli.tables import table
from dni_driver.core.addresses.fullness import HALVES, AgentUsage, OverlayUsage

_TITLES = ("AGENT", "AGENT SUBNET", "HALF", "", "SIZE", "USED", "RESERVED", "FREE", "HELD SINCE")


def usage(report: OverlayUsage) -> str:
    """Show an overlay agent by agent, a line for each half; then why something is missing."""
    rows = [row for agent in report.agents for row in _rows(agent)]
    shown = table(_TITLES, rows) if rows else f"No agent holds anything of overlay {report.overlay}."
    return "\n\n".join(filter(None, [shown, *_remarks(report)]))


def _rows(agent: AgentUsage) -> Iterator[tuple[object, ...]]:
    name = f"{agent.agent} (this)" if agent.here else agent.agent
    for subnet in agent.subnets:
        for half in HALVES:
            of = subnet.of(half)
            since = _date(subnet.since) if subnet.since else None
            yield name, subnet.subnet, half.capitalize(), of.half, of.size, of.used, of.reserved, of.free, since


def _remarks(report: OverlayUsage) -> Iterator[str]:
    """Say what is not known: of other agents once for all, of this host each thing."""
    if any(not agent.here for agent in report.agents):
        yield "How full the halves of other agents are, those know: ask there."
    here = [
        of.why for agent in report.agents if agent.here for one in agent.subnets for of in (one.mesos, one.docker)
    ]
    yield from dict.fromkeys(why for why in here if why)
    if report.problem:
        yield report.problem


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
