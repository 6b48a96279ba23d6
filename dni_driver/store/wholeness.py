# SPDX-License-Identifier: Apache-2.0
"""Whether a store holds what it must when it is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from dni_driver.store.complaints import damaged

_ONE_SIDED = """\
SELECT id FROM endpoint WHERE (address IS NOT NULL) + (address6 IS NOT NULL)
    != (SELECT count(*) FROM address WHERE address.endpoint = endpoint.id) LIMIT 1"""
"""An endpoint whose addresses are not held for it would see them given to another."""


def log_of(path: Path) -> Path:
    """Answer where SQLite keeps the log of a store: what was written and is not in its file yet."""
    return path.with_name(f"{path.name}-wal")


def has_log(path: Path) -> bool:
    """Tell whether there is a log, which SQLite carries over into the file: it takes it for the file's own."""
    log = log_of(path)
    return log.exists() and log.stat().st_size > 0


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError where pages of the file are damaged."""
    _expect(connection, path, "PRAGMA quick_check(1)")


def check_with_log(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError where a file and the log beside it are not of one store.

    So it is where a copy was put back and the log stayed: each page is sound, but not all are of one time.
    """
    _expect(connection, path, "PRAGMA integrity_check(1)")
    for question in ("PRAGMA foreign_key_check", _ONE_SIDED):
        if connection.execute(question).fetchone() is not None:
            raise damaged(path, f"parts of it are of different times: its log {log_of(path).name} is another's")


def _expect(connection: sqlite3.Connection, path: Path, question: str) -> None:
    (answer,) = connection.execute(question).fetchone()
    if answer != "ok":
        raise damaged(path, answer)
