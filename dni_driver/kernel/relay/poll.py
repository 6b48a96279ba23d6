# SPDX-License-Identifier: Apache-2.0
"""Descriptors, and what is to be done when something happens to one."""

from __future__ import annotations

import select
from collections.abc import Callable

Handler = Callable[[int], bool]
"""Is told what happened (EPOLLIN, …), sometimes without need; answers whether it wants to go on in its next turn."""


class Poll:
    """An epoll and the handlers behind it. One thread waits, with whoever has the lock of `Relay` changing it."""

    def __init__(self) -> None:
        """Begin with nothing to watch."""
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._unfinished: set[int] = set()
        self._stale: set[int] = set()

    def watch(self, descriptor: int, mask: int, handler: Handler) -> None:
        """Have something done when one of these happens; raise OSError."""
        self._epoll.register(descriptor, mask)
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Have nothing more done, which is to be said before it is closed; what is not watched is no error."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
            # What is known to have happened to it already happened to no other of its number.
            self._stale.add(descriptor)

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        """Answer descriptors to which something happened, and what; and those that want to go on."""
        self._stale.clear()
        going_on, self._unfinished = self._unfinished, set()
        happened = self._epoll.poll(0 if going_on else seconds)
        return [*happened, *((descriptor, 0) for descriptor in going_on - {one for one, _ in happened})]

    def handle(self, descriptor: int, mask: int) -> None:
        """Do what is to be done, if that is still so."""
        handler = None if descriptor in self._stale else self._handlers.get(descriptor)
        if handler is not None and handler(mask):
            self._unfinished.add(descriptor)

    def close(self) -> None:
        """End it."""
        self._handlers.clear()
        self._epoll.close()
