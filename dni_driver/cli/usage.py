# SPDX-License-Identifier: Apache-2.0
"""How full an overlay is, as text for people."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from dni_driver.cli.tables import table
from dni_driver.core.addresses.filling import HalfReport
from dni_driver.core.addresses.fullness import HALVES, AgentUsage, OverlayUsage

_TITLES = ("AGENT", "AGENT SUBNET", "HALF", "", "SIZE", "USED", "RESERVED", "FREE", "HELD SINCE", "AS OF")
_HALVES_TITLES = ("OVERLAY", "HALF", "FAMILY", "SIZE", "USED", "RESERVED", "FREE", "FULL", "LEVEL")
_SHOWN = 5
"""How many reasons for what is not known are shown."""


def usage(report: OverlayUsage) -> str:
    """Show an overlay agent by agent, a line for each half; then why something is missing."""
    now = time.time()
    rows = [row for agent in report.agents for row in _rows(agent, now)]
    shown = table(_TITLES, rows) if rows else f"No agent holds anything of overlay {report.overlay}."
    return "\n\n".join(filter(None, [shown, *_remarks(report)]))


def halves(reports: Sequence[HalfReport]) -> str:
    """Show the halves of a host that are filling up, and what Mesos has; the rest is in the table of overlays."""
    shown = [one for one in reports if one.level is not None or (one.half == "mesos" and one.size > one.free)]
    return table(_HALVES_TITLES, [_half_row(one) for one in shown]) if shown else ""


def _half_row(one: HalfReport) -> tuple[object, ...]:
    level = None if one.level is None else f"{one.level} % reached"
    counts = (one.size, one.used, one.reserved, one.free)
    return one.overlay, one.half.capitalize(), f"IPv{one.family}", *counts, f"{one.percent} %", level


def _rows(agent: AgentUsage, now: float) -> Iterator[tuple[object, ...]]:
    name = f"{agent.agent} (this)" if agent.here else agent.agent
    as_of = "now" if agent.here else None if agent.as_of is None else age(now - agent.as_of)
    for subnet in agent.subnets:
        for half in HALVES:
            of = subnet.of(half)
            since = _date(subnet.since) if subnet.since else None
            counts = (of.size, of.used, of.reserved, of.free)
            yield name, subnet.subnet, half.capitalize(), of.half, *counts, since, as_of


def _remarks(report: OverlayUsage) -> Iterator[str]:
    """Say what others' counts are worth, and why some are missing; not more than fits on a screen."""
    if any(agent.as_of is not None and not agent.here for agent in report.agents):
        yield "Other agents are as they told last; one that lives tells of a change within seconds."
    subnets = (one for agent in report.agents for one in agent.subnets)
    reasons = list(dict.fromkeys(of.why for one in subnets for of in (one.mesos, one.docker) if of.why))
    yield "\n".join(reasons[:_SHOWN])
    if len(reasons) > _SHOWN:
        yield f"and {len(reasons) - _SHOWN} more such reasons: dni overlay usage {report.overlay} --json"
    yield report.problem or ""


def age(seconds: float) -> str:
    """Write how long ago something was, in its largest unit; clocks of hosts may differ a little."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{max(seconds, 0.0):.0f} s ago"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
