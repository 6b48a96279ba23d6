# SPDX-License-Identifier: Apache-2.0
"""Threads that wait at a listening socket together: for each connection the kernel wakes one, which answers it.

So a connection goes from hand to hand nowhere, and calls that come one after the other are answered by one thread,
whose memory of the last call is still warm.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import structlog

log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 0.5
"""Until a connection that could not be taken is tried again."""

Finish = Callable[[], None]
"""Sends an answer that the connection has room for, and closes it; raises nothing."""
Answer = Callable[[socket.socket], Finish]
"""Finds the answer to what comes over a connection; raises nothing.

It is sent when its thread counts as waiting again: or the caller's next call could find nobody, and have one made.
"""


class Crew:
    """At most so many threads, each made when a connection is taken and nobody is left to wait for the next."""

    def __init__(self, listener: socket.socket, answer: Answer, most: int) -> None:
        """Take a listening socket, which stays the caller's, and what to do with each connection."""
        listener.settimeout(0)
        self._listener = listener
        self._answer = answer
        self._most = most
        self._count = threading.Lock()
        self._members: list[threading.Thread] = []
        self._waiting = 0
        self._bell = os.eventfd(0)

    def start(self) -> None:
        """Have the first thread wait; raise RuntimeError or OSError where there can be none."""
        with self._count:
            self._hire()

    def stop(self, seconds: float) -> None:
        """Take no more connections, and return when all taken ones are answered, or after some seconds."""
        os.eventfd_write(self._bell, 1)
        ends = time.monotonic() + seconds
        for member in list(self._members):
            member.join(max(0.0, ends - time.monotonic()))

    def _hire(self) -> None:
        """Make a thread, which counts as waiting from now on; the caller holds the count.

        Raises RuntimeError where there can be none, OSError where there can be no file for it: it would die of that.
        """
        name = f"dni-call-{len(self._members)}"
        with ExitStack() as undo:
            eye = undo.enter_context(select.epoll())
            member = threading.Thread(target=self._work, args=(eye,), name=name, daemon=True)
            member.start()
            undo.pop_all()
        self._members.append(member)
        self._waiting += 1

    def _work(self, eye: select.epoll) -> None:
        with eye:
            eye.register(self._bell, select.EPOLLIN)
            eye.register(self._listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            while (connection := self._accept(eye)) is not None:
                self._leave_the_door()
                finish = self._answer(connection)
                with self._count:
                    self._waiting += 1
                finish()

    def _accept(self, eye: select.epoll) -> socket.socket | None:
        """Wait for a connection; None when the bell was rung."""
        while True:
            ready = [descriptor for descriptor, _ in eye.poll()]
            if self._bell in ready:
                return None
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                log.warning("no call can be taken now", error=str(error))
                time.sleep(_PAUSE_SECONDS)
                continue
            return connection

    def _leave_the_door(self) -> None:
        """Wait no longer; somebody else does."""
        with self._count:
            self._waiting -= 1
            if not self._waiting and len(self._members) < self._most:
                try:
                    self._hire()
                except (RuntimeError, OSError) as error:
                    log.warning("calls wait for each other", error=str(error))
