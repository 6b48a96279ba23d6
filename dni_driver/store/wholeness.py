# SPDX-License-Identifier: Apache-2.0
"""Whether a store holds what it must: asked before anything is written, so that it is as it was the next time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dni_driver.store import schema
from dni_driver.store.complaints import damaged
from dni_driver.store.logs import log_of

_PATIENCE = 5.0
_ONE_SIDED = """\
SELECT id FROM endpoint WHERE (address IS NOT NULL) + (address6 IS NOT NULL)
    != (SELECT count(*) FROM address WHERE address.endpoint = endpoint.id) LIMIT 1"""
"""An endpoint whose addresses are not held for it would see them given to another."""


@contextmanager
def reading(path: Path, how: str = "mode=ro") -> Iterator[sqlite3.Connection]:
    """Open a store to be read as of one moment, as SQLite has it in a URI: nothing is carried over from any log."""
    with closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?{how}", _PATIENCE, isolation_level=None, uri=True)
    ) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        yield connection


def check(connection: sqlite3.Connection, path: Path) -> int:
    """Answer the version of a store; raise StoreError where it is a newer dni's, or damaged.

    It is damaged too where a copy was put back and the log of what was there stayed: each page is sound then, but not
    all are of one time. To look through the indexes as well takes some milliseconds.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    schema.check_version(version, path)
    (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if answer != "ok":
        raise damaged(path, answer)
    for question in ("PRAGMA foreign_key_check", _ONE_SIDED) if _has_endpoints(connection) else ():
        if connection.execute(question).fetchone() is not None:
            log = log_of(path).name
            raise damaged(path, f"parts of it are of different times: was a copy put back beside {log}?")
    return int(version)


def _has_endpoints(connection: sqlite3.Connection) -> bool:
    """Tell whether the tables are there: those of an empty file are still to be made."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'endpoint'").fetchone() is not None
