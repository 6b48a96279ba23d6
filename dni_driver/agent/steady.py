# SPDX-License-Identifier: Apache-2.0
"""The time of day by which records are judged to be old: setting the clock ahead makes none of them older."""

from __future__ import annotations

import threading

from dni_driver.agent.ports import Time
from dni_driver.core.invariants.finding import SETTLED

_SET = 1.0
"""Seconds between two readings of both clocks that nobody would call a drift."""


class Steady:
    """What was before the clock was set counts on until what was dated by it must be settled.

    It is to be read again and again: what happens in between is known only from then on. In memory: a restart
    forgets it.
    """

    def __init__(self, time: Time) -> None:
        """Begin with the clock as it is."""
        self._time = time
        self._lock = threading.Lock()
        self._ahead = self._read()
        self._former: list[tuple[float, float]] = []

    def __call__(self) -> float:
        """Answer the time of day, in seconds since 1970: for a minute at the most an earlier one."""
        with self._lock:
            now, ahead = self._time.monotonic(), self._read()
            if abs(ahead - self._ahead) > _SET:
                self._former.append((now, self._ahead))
            self._ahead = ahead
            self._former = [(until, former) for until, former in self._former if now - until < SETTLED]
            return now + min([ahead, *(former for _, former in self._former)])

    def _read(self) -> float:
        """Answer by how much the time of day is ahead of the time that nobody sets."""
        return self._time.clock() - self._time.monotonic()
