# SPDX-License-Identifier: Apache-2.0
"""Connections, transactions and migrations.

WAL with synchronous=FULL: what a transaction wrote is on disk before it returns. One connection for each
thread; writers of this process queue on a lock, so that SQLite's own back-off is met by other processes only.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from dni_driver.core.deadline import holding, within
from dni_driver.core.errors import StoreError

Transaction = sqlite3.Connection
"""A connection inside BEGIN … COMMIT."""

LOCK_SECONDS = 5.0
CACHE_KIB = 256
"""For each connection, of which every thread has one."""
MODE = 0o600


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
            connection.rollback()
            raise self._explained(error) from error
        except BaseException:
            connection.rollback()
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
            self.path.touch(mode=MODE, exist_ok=True)
            connection = self._connection()
            connection.execute("PRAGMA journal_mode = WAL")
            self._check(connection)
            _migrate(connection, self.path)

    def _check(self, connection: sqlite3.Connection) -> None:
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError(answer)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> StoreError:
        text = " ".join(str(error).split())
        if isinstance(error, sqlite3.OperationalError) and "locked" in text:
            return StoreError(f"the store {self.path} is busy: {text}; try again")
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, (sqlite3.OperationalError, sqlite3.IntegrityError)
        ):
            return StoreError(
                f"the store {self.path} is damaged ({text}): stop dni, put back a copy of it, or move it "
                f"away and make its networks anew (docker network rm, docker network create)"
            )
        return StoreError(f"the store {self.path} cannot be used: {text}")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    steps = sorted(
        (step for step in resources.files(__package__).joinpath("migrations").iterdir()),
        key=lambda step: step.name,
    )
    connection.execute("BEGIN IMMEDIATE")
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(steps):
        connection.rollback()
        raise StoreError(f"the store {path} was written by a newer dni (version {done}): install that one")
    for number, step in enumerate(steps[done:], done + 1):
        for statement in _statements(step.read_text(encoding="utf-8")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
    connection.commit()


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
