# SPDX-License-Identifier: Apache-2.0
"""Tells when the machine itself does not keep pace: a virtual one has neighbours, and slows down without a word.

`python -m tests.bench.stalls CPU` does the same little work on a processor again and again until its input ends, and
prints the moments when that took much longer than usual. What is measured meanwhile can then be told apart.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

_EVERY = 0.002
_WARM_UP = 200
_TIMES_AS_LONG = 4.0
_MARGIN = 0.01
"""Seconds around a moment that count as slow too: so long is nothing known."""


class Stalls:
    """When the machine was slow, in seconds of the monotonic clock; known once the watch has ended."""

    def __init__(self, moments: list[float] | None = None) -> None:
        """Take the moments."""
        self.moments = sorted(moments or [])

    def touch(self, began: float, seconds: float) -> bool:
        """Tell whether the machine was slow at any moment of some span of time."""
        place = bisect_left(self.moments, began - _MARGIN)
        return place < len(self.moments) and self.moments[place] <= began + seconds + _MARGIN


@contextmanager
def watched() -> Iterator[Stalls]:
    """Watch every processor meanwhile: it costs each a few percent."""
    stalls = Stalls()
    watchers = [_watcher(cpu) for cpu in sorted(os.sched_getaffinity(0))]
    try:
        yield stalls
    finally:
        found = [watcher.communicate()[0] for watcher in watchers]
    stalls.moments = sorted(moment for one in found for moment in msgspec.json.decode(one, type=list[float]))


def _watcher(cpu: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.bench.stalls", str(cpu)]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if watcher.stdout is not None:
        watcher.stdout.readline()
    return watcher


def slow_moments(work: Callable[[], object], ended: threading.Event) -> list[float]:
    """Do some work every two milliseconds until told to end; answer when it took much longer than usual."""
    usual = statistics.median(_cost(work) for _ in range(_WARM_UP))
    moments = []
    while not ended.wait(_EVERY):
        moment = time.monotonic()
        if _cost(work) > usual * _TIMES_AS_LONG:
            moments.append(moment)
    return moments


def _cost(work: Callable[[], object]) -> float:
    """Time some work on the thread's own clock: that it waits for others of this machine is no slowness of it."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _work() -> int:
    return sum(range(4000))


def _wait_for_the_end(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def main(cpu: int) -> None:
    """Be the watcher of one processor."""
    os.sched_setaffinity(0, {cpu})
    ended = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(ended,), daemon=True).start()
    sys.stdout.write("\n")
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.encode(slow_moments(_work, ended)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
