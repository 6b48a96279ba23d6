# SPDX-License-Identifier: Apache-2.0
"""Deletes links behind everybody's back: one deletion takes the kernel 18 ms, and so do fifty at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable

import structlog

from dni_driver.core.deadline import within
from dni_driver.core.errors import DniError, Unavailable

_log = structlog.get_logger()
_LONGEST = 10.0
_REST = 1.0
"""Seconds between deletions: links cannot be made nor moved while others are deleted, and some can wait together.

So can what is asked about them: the kernel looks through all connections for those of containers that are gone.
"""


class Reaper:
    """A thread that has what is named to it deleted, everything that waits in one batch, and a little later the next.

    It lives from the first link to `close`. What it cannot delete is logged and left to reconcile.
    """

    def __init__(self, delete: Callable[[Collection[str]], None]) -> None:
        """Begin without a thread; `delete` raises DniError or OSError."""
        self._delete_all = delete
        self._changed = threading.Condition()
        self._waiting: set[str] = set()
        self._dying: set[str] = set()
        self._hurried = 0
        self._thread: threading.Thread | None = None

    def doom(self, names: Iterable[str]) -> None:
        """Have links deleted soon; return at once."""
        with self._changed:
            self._waiting.update(names)
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="dni-reaper", daemon=True)
                thread.start()
                self._thread = thread
            self._changed.notify_all()

    def await_death(self, name: str) -> None:
        """Return when a link is not among those to be deleted: then its name can be used again."""
        self._await(lambda: name not in self._waiting and name not in self._dying)

    def drain(self) -> None:
        """Return when nothing waits to be deleted; raise Unavailable after 10 s."""
        self._await(lambda: not self._waiting and not self._dying)

    def close(self) -> None:
        """Delete what waits and end the thread."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None:
            thread.join(_LONGEST)

    def _await(self, done: Callable[[], bool]) -> None:
        with self._changed:
            if done():
                return
            self._hurried += 1
            self._changed.notify_all()
            try:
                if not self._changed.wait_for(done, within(_LONGEST)):
                    raise Unavailable("the kernel takes too long to delete links: the host is overloaded")
            finally:
                self._hurried -= 1

    def _work(self) -> None:
        while self._next_batch():
            self._delete(self._dying)
            with self._changed:
                self._dying = set()
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._hurried or self._is_closed(), _REST)

    def _is_closed(self) -> bool:
        return self._thread is not threading.current_thread()

    def _next_batch(self) -> bool:
        """Wait for links to delete; False when the thread has been closed and none are left."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed())
            self._dying, self._waiting = self._waiting, set()
            return bool(self._dying)

    def _delete(self, names: Collection[str]) -> None:
        try:
            self._delete_all(names)
        except (DniError, OSError) as error:
            _log.warning("links not deleted, reconcile will", links=sorted(names), error=str(error))
