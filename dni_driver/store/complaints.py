# SPDX-License-Identifier: Apache-2.0
"""What SQLite and the file system say no with, in words for people: what is wrong, and the way out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from dni_driver.core.errors import StoreError

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def explained(path: Path, error: Exception) -> StoreError:
    """Answer the error of a store at `path` that could not be used."""
    text, name = " ".join(str(error).split()), getattr(error, "sqlite_errorname", None) or ""
    if is_busy(error):
        return StoreError(f"the store {path} is busy: {text}; try again")
    if name.startswith(_DAMAGE):
        return damaged(path, text)
    if name == "SQLITE_FULL" or _number(error) == errno.ENOSPC:
        return StoreError(
            f"the store {path} cannot be written: its disk is full; make room there (`df -h {path.parent}`), then "
            f"all goes on by itself"
        )
    if name.startswith("SQLITE_READONLY") or is_read_only(path.parent):
        return StoreError(
            f"the store {path} cannot be written: its disk is read-only; find out why (`dmesg`) and mount it "
            f"writable, then all goes on by itself"
        )
    return StoreError(f"the store {path} cannot be used: {text}")


def is_busy(error: Exception) -> bool:
    """Tell whether another process has what is needed: a moment later it may be had."""
    return (getattr(error, "sqlite_errorname", None) or "").startswith("SQLITE_BUSY")


def damaged(path: Path, text: str) -> StoreError:
    """Answer the error of a store that does not hold what it must."""
    return StoreError(
        f"the store {path} is damaged ({' '.join(text.split())}): stop dni and move it away, its log too (mv {path}* "
        f"ELSEWHERE); then put back a copy of it, or make its networks anew (docker network rm, then docker network "
        f"create)"
    )


def _number(error: Exception) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def is_read_only(directory: Path) -> bool:
    """Tell whether a directory lies on a disk that may not be written, or that the kernel stopped writing to.

    SQLite says only that it cannot open a file, or of an error of the disk. Of the second the file system's own
    flags say nothing either: so a file without a name is made there, which is gone again at once.
    """
    try:
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            return True
        os.close(os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600))
    except OSError as error:
        return error.errno == errno.EROFS
    return False
