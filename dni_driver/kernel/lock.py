# SPDX-License-Identifier: Apache-2.0
"""One writer at a time among all dni processes of this host."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dni_driver.core.deadline import within
from dni_driver.core.errors import KernelError, Unavailable
from dni_driver.kernel.ledger import in_words

_LONGEST = 15.0
_PAUSE = 0.01


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file inside the block; raise Unavailable where another holds on to it for 15 s."""
    file = _opened(path)
    try:
        _take(file, path)
        yield
    finally:
        os.close(file)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KernelError(f"{path} cannot be locked: {in_words(error)}") from error


def _take(file: int, path: Path) -> None:
    give_up = time.monotonic() + within(_LONGEST)
    while not _taken(file):
        if time.monotonic() > give_up:
            raise Unavailable(f"another dni process has held {path} for too long: see `dni status`")
        time.sleep(_PAUSE)


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
