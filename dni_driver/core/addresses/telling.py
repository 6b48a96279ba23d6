# SPDX-License-Identifier: Apache-2.0
"""What an agent tells others of how full it is, and when: soon, seldom, and not when nothing has changed."""

from __future__ import annotations

from dni_driver.core.addresses.counts import Counts, HalfCounts, SubnetCounts
from dni_driver.core.addresses.fullness import HalfUsage, Local, subnet_usage
from dni_driver.core.overlays import AgentSubnet
from dni_driver.core.problems import InShort

EVERY = 5.0
"""Seconds between two tellings of one agent, at the least."""
A_SECOND = 500.0
"""So many agents may tell in one second, where all have something to tell all the time."""
LOOKS = 10.0
"""Seconds after which is counted anew where the store has not changed: files of others are counted too."""


def counts(local: Local, problems: InShort, now: float) -> Counts:
    """Count all that this host holds, and say what is wrong with it."""
    subnets = tuple(_counted(held, local) for held in local.records.agent_subnets)
    return Counts(as_of=now, subnets=subnets, problems=problems)


def _counted(held: AgentSubnet, local: Local) -> SubnetCounts:
    usage = subnet_usage(held, local)
    return SubnetCounts(
        overlay=held.overlay,
        subnet=usage.subnet,
        since=usage.since,
        mesos=_half(usage.mesos),
        docker=_half(usage.docker),
    )


def _half(usage: HalfUsage) -> HalfCounts | str:
    if usage.used is None or usage.reserved is None or usage.free is None:
        return usage.why or "it cannot be counted"
    return HalfCounts(usage.size, usage.used, usage.reserved, usage.free)


class Pacing:
    """When to count, and when to tell."""

    def __init__(self) -> None:
        """Have told nothing yet."""
        self._seen: object = None
        self._looks_again = self._tells_again = float("-inf")
        self._told: Counts | None = None

    def is_due(self, version: object, now: float) -> bool:
        """Tell whether to count, and tell, now; `version` is another after each change of what may be told."""
        return now >= self._tells_again and (version != self._seen or now >= self._looks_again)

    def passed_over(self, version: object, now: float) -> None:
        """Take note that nothing was to be told."""
        self._seen, self._looks_again = version, now + LOOKS

    def told(self, version: object, counts: Counts, now: float, agents: int) -> None:
        """Take note that it was done, in a cluster of so many agents."""
        self.passed_over(version, now)
        if self._told is None or not self._told.agrees(counts):
            self._told = counts
            self._tells_again = now + max(EVERY, agents / A_SECOND)
