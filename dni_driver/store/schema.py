# SPDX-License-Identifier: Apache-2.0
"""The tables: how a new store comes to have them, and an older one those of today."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from tempfile import NamedTemporaryFile

from dni_driver.core.errors import StoreError

_VERSIONS, _OF_WAL = slice(18, 20), b"\2\2"
"""Where the file says that it has a log (sqlite.org/fileformat2.html, section 1.3): nobody has to switch it then."""


def create(path: Path) -> None:
    """Make a store where there is none; another process that makes it at the same time may be first.

    It is for root alone (mode 0600), and appears under its name when it is whole and on disk: so an empty file of
    that name was never made here.
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
        whole = bytearray(connection.serialize())
    whole[_VERSIONS] = _OF_WAL
    return bytes(whole)


def _sync(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a store up to date, in one transaction; raise StoreError where it was written by a newer dni."""
    connection.execute("BEGIN IMMEDIATE")
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    check_version(done, path)
    for number, step in enumerate(_steps()[done:], done + 1):
        for statement in _statements(step.read_text(encoding="utf-8")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
    connection.commit()


def newest() -> int:
    """Answer the version of a store that is up to date."""
    return len(_steps())


def check_version(version: int, path: Path) -> None:
    """Raise StoreError where a store was written by a newer dni."""
    if version > newest():
        raise StoreError(f"the store {path} was written by a newer dni (version {version}): install that one")


def _steps() -> list[Traversable]:
    """Answer the migrations, in their order."""
    return sorted(resources.files(__package__).joinpath("migrations").iterdir(), key=lambda step: step.name)


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
