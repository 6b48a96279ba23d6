# SPDX-License-Identifier: Apache-2.0
"""How many containers of a network begin at once: more than the processors can carry are only in each other's way.

dockerd asks for the endpoints of a network one by one, and starts whatever has one: who gets fifty at once waits for
the last of them, and the processors for their caches. Who waits here holds up nobody but the starts behind it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import msgspec

LONGEST_SECONDS = 1.0
"""How long a start waits, and counts, at the most: one that has failed without a word must not stop the others."""

_FOR_EACH_PROCESSOR = 2
_PAUSE_SECONDS = 0.02


def most_at_once() -> int:
    """Answer how many starts the processors that this process may use carry well at a time."""
    return _FOR_EACH_PROCESSOR * len(os.sched_getaffinity(0))


class _Start(msgspec.Struct):
    """An endpoint on its way into a sandbox; `has_link` since there is a link for libnetwork to move."""

    network: str
    since: float
    has_link: bool = False


class Starts:
    """Counts endpoints from their creation until libnetwork has moved their link. Safe to use from many threads."""

    def __init__(
        self,
        most: int,
        awaits_move: Callable[[str], bool],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Let `most` of each network begin at once; `awaits_move` tells whether an endpoint's link is still here."""
        self._most = most
        self._awaits_move = awaits_move
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: dict[str, _Start] = {}

    @contextmanager
    def one_more(self, network: str, endpoint: str) -> Iterator[None]:
        """Wait until an endpoint may begin, and count it, unless what is done with it meanwhile fails."""
        gives_up = self._clock() + LONGEST_SECONDS
        while not self._has_room(network) and self._clock() < gives_up:
            self._sleep(_PAUSE_SECONDS)
        with self._lock:
            self._under_way[endpoint] = _Start(network, self._clock())
        with ExitStack() as undo:
            undo.callback(self.end, endpoint)
            yield
            undo.pop_all()

    def linked(self, endpoint: str) -> None:
        """Take note that there is a link to move."""
        with self._lock:
            start = self._under_way.get(endpoint)
            if start is not None:
                start.has_link = True

    def end(self, endpoint: str) -> None:
        """Count an endpoint no longer."""
        with self._lock:
            self._under_way.pop(endpoint, None)

    def _has_room(self, network: str) -> bool:
        with self._lock:
            self._under_way = {name: start for name, start in self._under_way.items() if self._lasts(name, start)}
            return sum(start.network == network for start in self._under_way.values()) < self._most

    def _lasts(self, endpoint: str, start: _Start) -> bool:
        if self._clock() - start.since >= LONGEST_SECONDS:
            return False
        return not start.has_link or self._awaits_move(endpoint)
