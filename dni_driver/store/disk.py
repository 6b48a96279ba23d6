# SPDX-License-Identifier: Apache-2.0
"""Has the log on disk, for all who wait for that at a moment: one wait for the disk serves many commits."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

from dni_driver.core.deadline import within
from dni_driver.core.errors import DeadlineExceeded

_LONGEST = 15.0


class Disk:
    """One file, which may come and go; safe to use from many threads."""

    def __init__(self, path: Path) -> None:
        """Have synced nothing yet."""
        self._path = path
        self._changed = threading.Condition()
        self._next = _Sync()
        self._is_busy = False

    def sync(self) -> None:
        """Return when all that was written to the file before is on disk; raise OSError where it never will be.

        Who comes while a sync is under way needs the next, and so does who else comes meanwhile.
        """
        with self._changed:
            needed = self._next
            while not needed.has_ended:
                if not self._is_busy:
                    self._sync_now()
                elif not self._changed.wait(within(_LONGEST)):
                    raise DeadlineExceeded(f"the disk under {self._path.parent} takes too long: is it overloaded?")
        if needed.failure is not None:
            raise needed.failure

    def _sync_now(self) -> None:
        """Sync for everybody who waits, without keeping others from beginning to."""
        begun, self._next, self._is_busy = self._next, _Sync(), True
        self._changed.release()
        try:
            begun.failure = _failure_of_sync(self._path)
        finally:
            self._changed.acquire()
            begun.has_ended, self._is_busy = True, False
            self._changed.notify_all()


class _Sync:
    """One wait for the disk; one that was cut short has failed."""

    def __init__(self) -> None:
        self.has_ended = False
        self.failure: OSError | None = OSError(errno.EINTR, os.strerror(errno.EINTR))


def _failure_of_sync(path: Path) -> OSError | None:
    try:
        _sync(path)
    except OSError as failure:
        return failure
    return None


def _sync(path: Path) -> None:
    """Sync a file by its path: SQLite makes its log anew when nobody has had the store open in between."""
    with suppress(FileNotFoundError):
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fdatasync(file)
        finally:
            os.close(file)
