# SPDX-License-Identifier: Apache-2.0
"""Threads that take turns at a listening socket: whoever takes a connection answers it, and another takes its place.

So a connection goes from hand to hand nowhere, and an idle plugin with one caller runs in one thread.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Answer = Callable[[socket.socket], None]
"""Answers what comes over a connection, and closes it; raises nothing."""


class Crew:
    """At most so many threads, each made when a connection is taken and nobody is left to wait for the next."""

    def __init__(self, listener: socket.socket, answer: Answer, most: int) -> None:
        """Take a listening socket, which stays the caller's, and what to do with each connection."""
        listener.settimeout(0)
        self._listener = listener
        self._answer = answer
        self._most = most
        self._door = threading.Lock()
        self._count = threading.Lock()
        self._members: list[threading.Thread] = []
        self._waiting = 0
        self._bell = os.eventfd(0)
        self._eye = select.poll()
        self._eye.register(listener, select.POLLIN)
        self._eye.register(self._bell, select.POLLIN)

    def start(self) -> None:
        """Have the first thread wait."""
        self._hire()

    def stop(self, seconds: float) -> None:
        """Take no more connections, and return when all taken ones are answered, or after some seconds."""
        os.eventfd_write(self._bell, 1)
        ends = time.monotonic() + seconds
        for member in self._members:
            member.join(max(0.0, ends - time.monotonic()))

    def _hire(self) -> None:
        member = threading.Thread(target=self._work, name=f"dni-call-{len(self._members)}", daemon=True)
        self._members.append(member)
        member.start()

    def _work(self) -> None:
        while (connection := self._next()) is not None:
            self._answer(connection)

    def _next(self) -> socket.socket | None:
        """Wait for the turn, then for a connection; None when the bell was rung."""
        with self._turn():
            connection = self._accept()
            if connection is not None and not self._waiting and len(self._members) < self._most:
                self._hire()
            return connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._count:
            self._waiting += 1
        with self._door:
            with self._count:
                self._waiting -= 1
            yield

    def _accept(self) -> socket.socket | None:
        while True:
            ready = [descriptor for descriptor, _ in self._eye.poll()]
            if self._bell in ready:
                return None
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            return connection
