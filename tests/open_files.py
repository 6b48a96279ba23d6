# SPDX-License-Identifier: Apache-2.0
"""What this process holds open: the files and threads that whatever was tried must give back."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Fail where there are more files or threads afterwards; fewer is what an earlier test had yet to give back."""
    files, threads = _held()
    yield
    files_after, threads_after = _held()
    assert files_after <= files
    assert threads_after <= threads


def _held() -> tuple[int, int]:
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
