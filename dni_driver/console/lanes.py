# SPDX-License-Identifier: Apache-2.0
"""Threads that answer at a socket, some of them for what is urgent alone: nothing else can hold that up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from waitress.task import ThreadedTaskDispatcher

THREADS = 3
"""Of each lane."""


class Lanes:
    """Dispatches what waitress has read: what is urgent by its path to threads that do nothing else."""

    def __init__(self, is_urgent: Callable[[str], bool]) -> None:
        """Start the threads of both lanes."""
        self._is_urgent = is_urgent
        self._urgent, self._other = lane(), lane()

    def add_task(self, channel: Any) -> None:
        """Have the next request of a connection answered; one whose head could not be read has no path."""
        path = getattr(channel.requests[0], "path", "")
        (self._urgent if self._is_urgent(path) else self._other).add_task(channel)

    def shutdown(self) -> None:
        """Give what is being answered some seconds to end, and answer nothing more."""
        for one in (self._urgent, self._other):
            one.shutdown()


def lane() -> ThreadedTaskDispatcher:
    """Start the threads of one lane."""
    started = ThreadedTaskDispatcher()
    started.set_thread_count(THREADS)
    return started
