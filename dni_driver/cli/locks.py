# SPDX-License-Identifier: Apache-2.0
"""One of each program on a host: a locked file in the run directory, which says who holds it.

The kernel drops a lock when the last process that inherited it has ended, however it ended.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from dni_driver.core.driver_name import PLAIN
from dni_driver.core.errors import Unavailable

PREDECESSOR_SECONDS = 30.0
"""How long a program waits for the one before it to answer its last calls."""

_POLL_SECONDS = 0.05
_LONGEST = 300
"""In bytes, of who holds a lock."""
_MODE = 0o600
"""Nobody else may lock dni out."""


def take(path: Path, program: str, patience: float, driver: str = PLAIN) -> int:
    """Lock a file, waiting `patience` seconds at the most; answer its descriptor, which holds the lock.

    A fork shares the lock, an exec does not. Raises Unavailable, naming who holds it. A managed plugin, told by the
    name of its driver, is not named by its pid: that counts inside of it only.
    """
    lock = _open(path)
    gives_up = time.monotonic() + patience
    while not _locked(lock):
        if time.monotonic() >= gives_up:
            by = _noted(lock)
            os.close(lock)
            raise Unavailable(f"{program} runs here already ({by}): stop that first")
        time.sleep(_POLL_SECONDS)
    os.truncate(lock, 0)
    own = f"pid {os.getpid()}" if driver == PLAIN else f"managed plugin {driver}"
    os.pwrite(lock, f"{own}\n".encode(), 0)
    return lock


def holder(path: Path) -> str | None:
    """Say who holds a lock, None where nobody does; raise PermissionError where it may not be asked."""
    try:
        lock = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        return None if _locked(lock) else _noted(lock)
    finally:
        os.close(lock)


def await_end(path: Path, program: str, patience: float) -> None:
    """Wait until nobody holds a lock; raise Unavailable, naming who does, after `patience` seconds."""
    os.close(take(path, program, patience))


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, _MODE)
    except OSError as error:
        raise Unavailable(f"cannot use {path}: {error.strerror}") from None


def _noted(lock: int) -> str:
    """Answer what its holder wrote into a lock: who it is."""
    return os.pread(lock, _LONGEST, 0).decode(errors="replace").strip()


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
