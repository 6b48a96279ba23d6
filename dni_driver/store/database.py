# SPDX-License-Identifier: Apache-2.0
"""Connections and transactions.

SQLite in WAL mode writes a commit into its log and does not wait for the disk (synchronous=NORMAL). That is done
here, behind the commit, so that others can go on and several commits wait as one: what `write` wrote is on disk
before it returns, what `note` wrote soon after.

Writers of this process queue on a lock, so that SQLite's own back-off is met by other processes only.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dni_driver.core.deadline import holding, within
from dni_driver.store import logs, schema, wholeness
from dni_driver.store.complaints import damaged, explained, is_read_only
from dni_driver.store.connections import Connections
from dni_driver.store.disk import Disk

Transaction = sqlite3.Connection
"""A connection inside BEGIN … COMMIT."""

LOCK_SECONDS = 5.0


class Store:
    """One SQLite file. `crash_point` is called before and after each commit: tests raise there."""

    def __init__(self, path: Path, crash_point: Callable[[str], None] = lambda _: None) -> None:
        """Open the file, making it or bringing it up to date; raise StoreError where it cannot be used."""
        self.path = path
        self._disk = Disk(logs.log_of(path))
        self._crash_point = crash_point
        self._writer = threading.Lock()
        self._connections = Connections(path)
        self._watching = Connections(path)
        with ExitStack() as undo:
            undo.callback(self.close)
            self._prepare()
            undo.pop_all()

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
        with self.note() as connection:
            yield connection
        with self._errors():
            self._disk.sync()

    @contextmanager
    def note(self) -> Iterator[Transaction]:
        """Give the right to write what means nothing after a failure of power; else as `write`.

        Whatever happens to processes, it is there. It reaches the disk with the next `write` or `checkpoint`.
        """
        with (
            holding(self._writer, LOCK_SECONDS, f"the store {self.path} is busy; try again"),
            self._transaction("BEGIN IMMEDIATE", self._crash_point) as connection,
        ):
            yield connection

    def checkpoint(self) -> None:
        """Have all that was noted on disk, and the log carried over into the file, so that no commit has to do it.

        Nobody waits for it meanwhile.
        """
        with self._errors(), self._connections.lend() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def version(self) -> tuple[int, int]:
        """Answer what is another thing once something was written, here or elsewhere: asking costs microseconds."""
        with self._errors(), self._watching.lend() as connection:
            (number,) = connection.execute("PRAGMA data_version").fetchone()
            return id(connection), number

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()
        self._watching.close()

    @contextmanager
    def _transaction(self, begin: str, crash_point: Callable[[str], None]) -> Iterator[Transaction]:
        try:
            with self._connections.lend() as connection:
                connection.be_patient(within(LOCK_SECONDS))
                connection.execute(begin)
                with _rolled_back_on_failure(connection):
                    yield connection
                    crash_point("before commit")
                    connection.commit()
        except sqlite3.Error as error:
            raise explained(self.path, error) from error
        crash_point("after commit")

    def _prepare(self) -> None:
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._check_writable()
            if not self.path.exists():
                self._create()
            self._check_not_empty()
            with wholeness.reading(self.path) as connection:
                wholeness.check(connection, self.path)
            with self._connections.lend() as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                schema.migrate(connection, self.path)
            self._disk.sync()

    def _create(self) -> None:
        log = logs.orphaned(self.path)
        if log is not None:
            raise damaged(self.path, f"it is gone, and its log {log.name} is left")
        schema.create(self.path)

    def _check_writable(self) -> None:
        """Refuse a read-only disk: SQLite would open the file for reading, and the whole process stay with that."""
        if is_read_only(self.path.parent):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def _check_not_empty(self) -> None:
        if self.path.is_file() and self.path.stat().st_size == 0:
            raise damaged(self.path, "the file is empty")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise explained(self.path, error) from error


@contextmanager
def _rolled_back_on_failure(connection: sqlite3.Connection) -> Iterator[None]:
    """Roll back on any exception as far as that goes; a connection that cannot even do that is of no more use."""
    with ExitStack() as undo:
        undo.callback(connection.rollback)
        yield
        undo.pop_all()
