# SPDX-License-Identifier: Apache-2.0
"""How long the caller of the running step can still wait: each lock, transaction and subprocess asks here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from dni_driver.core.errors import DeadlineExceeded

_ends: ContextVar[tuple[float, Callable[[], float]] | None] = ContextVar("deadline", default=None)


class Lock(Protocol):
    """What `threading.Lock` can do."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool:  # noqa: FBT001 - as threading has it
        """Take it within `timeout` seconds; False where that is not possible."""

    def release(self) -> None:
        """Give it back."""


@contextmanager
def deadline(seconds: float, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Give everything inside the block `seconds` at the most; an outer, nearer deadline stays in force."""
    outer = _ends.get()
    ends = clock() + seconds
    token = _ends.set((ends, clock) if outer is None or ends < outer[0] else outer)
    try:
        yield
    finally:
        _ends.reset(token)


def within(seconds: float) -> float:
    """Answer the seconds a step may take: its own bound, or what is left; raise DeadlineExceeded at 0."""
    current = _ends.get()
    if current is None:
        return seconds
    ends, clock = current
    left = ends - clock()
    if left <= 0:
        raise DeadlineExceeded("dni ran out of time on this call: the host is overloaded; try again")
    return min(seconds, left)


@contextmanager
def holding(lock: Lock, seconds: float, busy: str) -> Iterator[None]:
    """Hold a lock inside the block; raise DeadlineExceeded, saying `busy`, where it is not had in time."""
    if not lock.acquire(timeout=within(seconds)):
        raise DeadlineExceeded(busy)
    try:
        yield
    finally:
        lock.release()
