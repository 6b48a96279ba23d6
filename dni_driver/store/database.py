# SPDX-License-Identifier: Apache-2.0
"""Connections and transactions.

WAL with synchronous=FULL: what a transaction wrote is on disk before it returns. One connection for each
thread; writers of this process queue on a lock, so that SQLite's own back-off is met by other processes only.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dni_driver.core.deadline import holding, within
from dni_driver.core.errors import StoreError
from dni_driver.store import schema
from dni_driver.store.complaints import damaged, explained, is_busy, is_read_only

Transaction = sqlite3.Connection
"""A connection inside BEGIN … COMMIT."""

LOCK_SECONDS = 5.0
CACHE_KIB = 256
"""For each connection, of which every thread has one."""


class Store:
    """One SQLite file. `crash_point` is called before and after each commit: tests raise there."""

    def __init__(self, path: Path, crash_point: Callable[[str], None] = lambda _: None) -> None:
        """Open the file, making it or bringing it up to date; raise StoreError where it cannot be used."""
        self.path = path
        self._crash_point = crash_point
        self._local = threading.local()
        self._writer = threading.Lock()
        self._opened: list[sqlite3.Connection] = []
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Give a view of one moment; nothing written elsewhere meanwhile shows in it."""
        with self._transaction("BEGIN", lambda _: None) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Give the right to write; commit durably at the end, or roll back on any exception.

        Raises DeadlineExceeded where the lock is not had in time, StoreError where the disk says no.
        """
        with (
            holding(self._writer, LOCK_SECONDS, f"the store {self.path} is busy; try again"),
            self._transaction("BEGIN IMMEDIATE", self._crash_point) as connection,
        ):
            yield connection

    def version(self) -> tuple[int, int]:
        """Answer what is another thing once something was written, but by this thread: asking costs microseconds."""
        with self._errors():
            connection = self._connection()
            (number,) = connection.execute("PRAGMA data_version").fetchone()
        return id(connection), number

    def close(self) -> None:
        """Close the connections of every thread."""
        while self._opened:
            self._opened.pop().close()
        self._local = threading.local()

    @contextmanager
    def _transaction(self, begin: str, crash_point: Callable[[str], None]) -> Iterator[Transaction]:
        with self._errors():
            connection = self._connection()
            connection.execute(f"PRAGMA busy_timeout = {int(within(LOCK_SECONDS) * 1000)}")
            connection.execute(begin)
        try:
            yield connection
            crash_point("before commit")
            connection.commit()
        except sqlite3.Error as error:
            _rolled_back(connection)
            raise self._failed(error) from error
        except BaseException:
            _rolled_back(connection)
            raise
        crash_point("after commit")

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._local.connection = connection
            self._opened.append(connection)
        return connection

    def _prepare(self) -> None:
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._check_writable()
            if not self.path.exists():
                self._create()
            self._check_whole()
            connection = self._connection()
            connection.execute("PRAGMA journal_mode = WAL")
            self._check(connection)
            schema.migrate(connection, self.path)

    def _create(self) -> None:
        log = schema.orphaned_log(self.path)
        if log is not None:
            raise damaged(self.path, f"it is gone, and its log {log.name} is left")
        schema.create(self.path)

    def _check_writable(self) -> None:
        """Refuse a read-only disk: SQLite would open the file for reading, and the whole process stay with that."""
        if is_read_only(self.path.parent):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def _check_whole(self) -> None:
        if self.path.is_file() and self.path.stat().st_size == 0:
            raise damaged(self.path, "the file is empty")

    def _check(self, connection: sqlite3.Connection) -> None:
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise damaged(self.path, answer)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error | OSError) -> StoreError:
        """Answer what to tell of an error; after one of the disk, the next transaction opens the file anew.

        SQLite opens a file on a read-only disk for reading, and goes on so when the disk can be written again.
        """
        if not isinstance(error, sqlite3.IntegrityError) and not is_busy(error):
            self._let_go()
        return explained(self.path, error)

    def _let_go(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection in self._opened:
            self._opened.remove(connection)
            connection.close()
        self._local.connection = None


def _rolled_back(connection: sqlite3.Connection) -> None:
    """Roll back as far as that goes: what SQLite cannot even take back goes with the connection."""
    with suppress(sqlite3.Error):
        connection.rollback()
