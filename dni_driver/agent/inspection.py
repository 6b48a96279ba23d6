# SPDX-License-Identifier: Apache-2.0
"""`dni check` and `dni repair`: the orders of a person, carried out while they wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from dni_driver.agent.collector import Collector
from dni_driver.agent.ports import Docker, Kernel, Time
from dni_driver.agent.reconciler import Reconciler
from dni_driver.agent.steady import Steady
from dni_driver.core.errors import DniError
from dni_driver.core.invariants.check import findings
from dni_driver.core.invariants.finding import REPAIR, Finding, is_settled
from dni_driver.core.invariants.leaks import Leak, describe, leaks, newest
from dni_driver.core.reports import Repair
from dni_driver.core.views import DockerView
from dni_driver.core.wanted import wanted
from dni_driver.store import Store
from dni_driver.store.records import read_all

SECOND_LOOK = 1.0
"""Seconds after which a finding must still be there: store, kernel and Docker cannot be read at one moment."""

REPAIR_GRACE = 2.0
"""Seconds between the two looks of a repair."""

PORTION = 64
"""How many leaks are freed together: six seconds where nobody answers for any of them."""
FREEING_SECONDS = 30.0
"""After which a repair begins with no further portion: half of what its caller waits."""

SEE_LOG = "see the log of the agent"

T = TypeVar("T")


class Inspection:
    """Holds store, kernel and Docker against each other at once, and mends what can be mended.

    A repair frees without the collector's graces what Docker does not list at two looks 2 s apart, if it has been
    as it is for a minute, which no action of dockerd lasts, and does not answer on its bridge.
    """

    def __init__(self, store: Store, kernel: Kernel, docker: Docker, time: Time, steady: Steady) -> None:
        """Take what is to be compared; `steady` tells how old it is."""
        self._store = store
        self._kernel = kernel
        self._docker = docker
        self._time = time
        self._steady = steady

    def check(self) -> list[Finding]:
        """Answer what is wrong, at two looks a second apart."""
        first = self._look()
        if not first:
            return []
        self._time.sleep(SECOND_LOOK)
        again = set(self._look())
        return [finding for finding in first if finding in again]

    def repair(self, reconciler: Reconciler, collector: Collector) -> Repair:
        """Mend the kernel, free what has leaked; answer what was done and what is left."""
        changed, refused = attempt(reconciler.mend)
        freed: list[str] = []
        unasked, kept = attempt(lambda: self._collect(collector, freed))
        if freed:
            more, refused = attempt(reconciler.mend)
            changed += more
        left = self.check()
        known = {finding.problem for finding in left}
        told = [*refusals([*refused, *kept]), *_unfinished(unasked)]
        return Repair(
            changed=changed, freed=freed, findings=[*(one for one in told if one.problem not in known), *left]
        )

    def _collect(self, collector: Collector, freed: list[str]) -> list[str]:
        """Free portion by portion what has leaked, noting it; answer in words what there was no time for."""
        first, _ = self._leaks()
        if not first:
            return []
        self._time.sleep(REPAIR_GRACE)
        second, docker = self._leaks()
        due = sorted(first & second, key=describe)
        ends = self._time.monotonic() + FREEING_SECONDS
        while due and self._time.monotonic() < ends:
            freed += collector.free(due[:PORTION], docker)
            del due[:PORTION]
        return [about for about, _ in map(describe, due)]

    def _leaks(self) -> tuple[set[Leak], DockerView]:
        """Answer the leaks that are no call in progress, and the look at Docker that shows them."""
        records = read_all(self._store)
        docker = self._docker.view(records)
        now = self._steady()
        return {leak for leak in leaks(records, docker) if is_settled(newest(leak), now)}, docker

    def _look(self) -> list[Finding]:
        records = read_all(self._store)
        target = wanted(records)
        kernel, dark = _seen(lambda: self._kernel.observe(target), "kernel", SEE_LOG)
        docker, away = _seen(lambda: self._docker.view(records), "docker", "start dockerd, then run dni check again")
        return [*findings(records, kernel, docker, target, self._steady()), *dark, *away]


def _seen(look: Callable[[], T], about: str, mend: str) -> tuple[T | None, list[Finding]]:
    """Answer what a look shows; where there is nothing to be seen, the finding that says so."""
    try:
        return look(), []
    except DniError as error:
        return None, [Finding(about=about, problem=str(error), mend=mend)]


def _unfinished(unasked: Sequence[str]) -> list[Finding]:
    """Answer the finding that a repair had no time for everything."""
    if not unasked:
        return []
    problem = f"had no time for {len(unasked)} more, from {unasked[0]} on"
    return [Finding(about="repair", problem=problem, mend=REPAIR)]


def attempt(act: Callable[[], Iterable[str]]) -> tuple[list[str], list[str]]:
    """Answer what was done until it failed, and in words what was not: a repair goes on without it."""
    done: list[str] = []
    try:
        done.extend(act())
    except DniError as error:
        return done, [str(error)]
    return done, []


def refusals(problems: Iterable[str]) -> list[Finding]:
    """Answer the findings that say what a repair was refused."""
    return [Finding(about="repair", problem=problem, mend=SEE_LOG) for problem in problems]
