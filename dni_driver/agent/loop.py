# SPDX-License-Identifier: Apache-2.0
"""A step that is done again and again, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import msgspec
import structlog

from dni_driver.agent.problems import Problems
from dni_driver.core.errors import DniError

log = structlog.get_logger(__name__)

FIRST_RETRY = 1.0


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often a step is done, in seconds.

    `every`: from the end of one to the next; `settle`: after being woken, for more news to come in; `rest`: after
    a success, even if woken, in multiples of what the step took, but no longer than `every`.
    """

    every: float
    settle: float = 0.0
    rest: float = 0.0


Step = Callable[[], Sequence[str]]
"""Does something, and answers in words what is wrong about it."""


class Loop:
    """Does a step until it is stopped. What the step raises is reported, and it is done again a little later.

    It can be woken before it starts: the parts that wake each other are there before any of them runs.
    """

    def __init__(self, name: str, pace: Pace, problems: Problems) -> None:
        """Do nothing yet."""
        self._name = name
        self._pace = pace
        self._problems = problems
        self._changed = threading.Condition()
        self._stopping = False
        self._hurried = False
        self._asked = self._begun = self._done = 0
        self._failures = 0
        self._is_past_first = False
        self._thread: threading.Thread | None = None

    def start(self, step: Step) -> None:
        """Do a step now, and again and again."""
        self._thread = threading.Thread(target=self._run, args=(step,), name=f"dni-{self._name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Do the next step soon."""
        with self._changed:
            is_first = self._asked == self._begun
            self._asked += 1
            if is_first:
                self._changed.notify_all()

    def hurry(self) -> None:
        """Do the next step now, whatever the last one took."""
        with self._changed:
            self._asked += 1
            self._hurried = True
            self._changed.notify_all()

    def await_first(self, seconds: float) -> None:
        """Return when the first step is done, or after some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_past_first, seconds)

    def catch_up(self, seconds: float) -> None:
        """Do now what it was woken for, and return when that is done, or after some seconds."""
        with self._changed:
            asked = self._asked
            self._hurried = self._hurried or asked > self._begun
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopping or self._done >= asked, seconds)

    def stop(self) -> None:
        """Do no further step."""
        with self._changed:
            self._stopping = True
            self._asked += 1
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the end of the step at hand."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, step: Step) -> None:
        while self._begin():
            started = time.monotonic()
            self._do(step)
            self._wait(time.monotonic() - started)

    def _begin(self) -> bool:
        with self._changed:
            self._begun = self._asked
            self._hurried = False
            return not self._stopping

    def _wait(self, took: float) -> None:
        """Wait until the next step is due: by the clock, or a little after news."""
        with self._changed:
            self._done = self._begun
            self._is_past_first = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._hurried or self._stopping, self._rest(took))
            if self._changed.wait_for(lambda: self._asked > self._begun, self._pause(took)):
                self._changed.wait_for(lambda: self._hurried or self._stopping, self._pace.settle)

    def _do(self, step: Step) -> None:
        try:
            problems = step()
        except DniError as error:
            self._failed(str(error))
        except Exception as error:
            log.exception("a step failed unexpectedly", part=self._name)
            self._failed(f"{self._name} failed unexpectedly ({type(error).__name__}: {error}): the log says more")
        else:
            self._failures = 0
            self._problems.report(self._name, problems)

    def _failed(self, problem: str) -> None:
        self._failures += 1
        self._problems.report(self._name, (problem,))

    def _rest(self, took: float) -> float:
        return 0.0 if self._failures else min(took * self._pace.rest, self._pace.every)

    def _pause(self, took: float) -> float:
        """Answer how long to wait: after failures in a row 1, 2, 4 ... seconds, but no longer than usual."""
        if took > self._pace.every:
            self._failures = min(self._failures, 1)
        if not self._failures:
            return self._pace.every
        return min(self._pace.every, FIRST_RETRY * 2.0 ** min(self._failures - 1, 16))
