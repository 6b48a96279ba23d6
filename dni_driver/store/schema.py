# SPDX-License-Identifier: Apache-2.0
"""The tables: how a new store comes to have them, and an older one those of today."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib import resources
from pathlib import Path
from tempfile import NamedTemporaryFile

from dni_driver.core.errors import StoreError


def create(path: Path) -> None:
    """Make a store where there is none; another process that makes it at the same time may be first.

    For root alone (mode 0600). It appears under its name when it is whole and on disk: so an empty file of that name was never made here.
    """
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-") as draft:
        draft.write(_empty(path))
        draft.flush()
        os.fsync(draft.fileno())
        with suppress(FileExistsError):
            os.link(draft.name, path)
    _sync(path.parent)


def _empty(path: Path) -> bytes:
    """Answer the file of a store that has all its tables and nothing in them."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, path)
        return connection.serialize()


def _sync(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a store up to date, in one transaction; raise StoreError where it was written by a newer dni."""
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
