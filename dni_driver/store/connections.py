# SPDX-License-Identifier: Apache-2.0
"""Connections to one SQLite file: lent out, and given back for the next who needs one.

What was given back last is lent first. So there are as many as were ever needed at once, however many threads there
are, and the one in use has its statements, and the pages it read, still at hand.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dni_driver.store.complaints import is_busy

CACHE_KIB = 256
"""For each connection."""
LOG_PAGES = 8192
"""How long the log grows before a commit has to empty it, in pages of 4 KiB; a checkpoint is there to come before."""


class Connection(sqlite3.Connection):
    """One that knows how long it waits for other processes."""

    _patience: float | None = None

    def be_patient(self, seconds: float) -> None:
        """Wait for other processes no longer than that."""
        if self._patience != seconds:
            self.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
            self._patience = seconds


class Connections:
    """Those to one file; safe to use from many threads."""

    def __init__(self, path: Path) -> None:
        """Open none yet."""
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._lent: list[Connection] = []

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """Lend one; raise sqlite3.Error where none can be opened.

        Once one has failed, it and those that wait are not lent again: SQLite opens a file on a read-only disk for
        reading, and goes on so when the disk can be written again.
        """
        connection = self._take()
        try:
            yield connection
        except sqlite3.Error as error:
            if not isinstance(error, sqlite3.IntegrityError) and not is_busy(error):
                self._drop(connection)
            raise
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close all of them, also where they are lent."""
        with self._lock:
            connections = [*self._idle, *self._lent]
            self._idle, self._lent = [], []
        for connection in connections:
            connection.close()

    def _take(self) -> Connection:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = _open(self._path)
        with self._lock:
            self._lent.append(connection)
        return connection

    def _give_back(self, connection: Connection) -> None:
        """Keep it for the next, unless it was closed meanwhile."""
        with self._lock:
            if connection in self._lent:
                self._lent.remove(connection)
                self._idle.append(connection)

    def _drop(self, failed: Connection) -> None:
        with self._lock:
            dropped = [failed, *self._idle]
            self._idle = []
            if failed in self._lent:
                self._lent.remove(failed)
        for connection in dropped:
            with suppress(sqlite3.Error):
                connection.close()


def _open(path: Path) -> Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Connection)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    return connection
