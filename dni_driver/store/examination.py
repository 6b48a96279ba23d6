# SPDX-License-Identifier: Apache-2.0
"""A store and its disk, looked at without being opened to be written: for `dni doctor`."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import msgspec

from dni_driver.core.doctor.facts import DiskFacts, StoreFacts
from dni_driver.core.errors import StoreError
from dni_driver.core.records import Records
from dni_driver.store import fence, logs, schema, wholeness
from dni_driver.store.complaints import damaged, explained, is_read_only
from dni_driver.store.records import read


def look(path: Path) -> StoreFacts:
    """Look at a store; raise OSError where this user may not."""
    if not path.exists():
        orphan = logs.orphaned(path)
        trouble = None if orphan is None else f"is gone, and its log {orphan} is left"
        return StoreFacts(path=str(path), exists=orphan is not None, trouble=trouble)
    log = logs.log_of(path)
    status = path.stat()
    path.open("rb").close()
    contents, trouble = _contents(path)
    return StoreFacts(
        path=str(path),
        exists=True,
        size=status.st_size,
        log_size=log.stat().st_size if log.exists() else 0,
        mode=status.st_mode & 0o777,
        trouble=trouble,
        records=contents.records if contents else None,
        disputes=contents.disputes if contents else {},
    )


class _Contents(msgspec.Struct, frozen=True):
    records: Records
    disputes: dict[str, str]


def _contents(path: Path) -> tuple[_Contents | None, str | None]:
    """Answer what a store holds (None for an older dni's, which is brought up to date first), or what ails it."""
    try:
        return _read(path), None
    except (ValueError, msgspec.MsgspecError) as error:
        return None, _without_subject(damaged(path, str(error)), path)
    except (sqlite3.Error, OSError) as error:
        return None, _without_subject(explained(path, error), path)
    except StoreError as error:
        return None, _without_subject(error, path)


def _read(path: Path) -> _Contents | None:
    if path.stat().st_size == 0:
        raise damaged(path, "the file is empty")
    with wholeness.reading(path, _how(path)) as connection:
        if wholeness.check(connection, path) != schema.newest():
            return None
        return _Contents(read(connection), fence.disputes(connection))


def _how(path: Path) -> str:
    """Answer how a store is opened to be read; of one that nobody has open SQLite then leaves no log beside it."""
    is_open = logs.log_of(path).exists()
    return "mode=ro" if is_open else "mode=ro&immutable=1"


def _without_subject(error: StoreError, path: Path) -> str:
    return str(error).removeprefix(f"the store {path} ")


def look_at_disk(directory: Path) -> DiskFacts:
    """Look at the file system that a directory is on, or will be; raise OSError."""
    there = next(place for place in (directory, *directory.parents) if place.exists())
    status = os.statvfs(there)
    return DiskFacts(
        path=str(directory),
        mount=str(next(place for place in (there, *there.parents) if place.is_mount())),
        free=status.f_bavail * status.f_frsize,
        is_out_of_inodes=status.f_files > 0 and status.f_favail == 0,
        is_read_only=is_read_only(there),
    )
