# SPDX-License-Identifier: Apache-2.0
"""Other network namespaces: the sandboxes of containers, entered by a thread made for it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import TypeVar

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_OWN = Path("/proc/thread-self/ns/net")
_libc = ctypes.CDLL(None, use_errno=True)

_Result = TypeVar("_Result")


@contextmanager
def opened(path: str) -> Iterator[int | None]:
    """Open a network namespace other than this one by its path; None where there is none at that path."""
    try:
        # Whoever may ask for a container of CNI names any path: a pipe must keep nobody waiting.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        yield None
        return
    try:
        yield file if _is_foreign_namespace(file) else None
    finally:
        os.close(file)


def _is_foreign_namespace(file: int) -> bool:
    """Tell a namespace from the empty file that dockerd mounts it on, and from our own."""
    try:
        kind = fcntl.ioctl(file, _NS_GET_NSTYPE)
    except OSError:
        return False
    return kind == _CLONE_NEWNET and not os.path.samestat(os.fstat(file), _OWN.stat())


def inside(namespace: int, work: Callable[[], _Result]) -> _Result:
    """Do some work in an open namespace, in a thread that lives no longer; raise what it raises."""
    return _elsewhere(lambda: _check(_libc.setns(namespace, _CLONE_NEWNET)), work)


def in_a_new_one(work: Callable[[], _Result]) -> _Result:
    """Do some work in a namespace made for it, which the kernel takes away behind it; raise what it raises."""
    return _elsewhere(lambda: _check(_libc.unshare(_CLONE_NEWNET)), work)


def _elsewhere(go: Callable[[], None], work: Callable[[], _Result]) -> _Result:
    def visit() -> _Result:
        go()
        return work()

    with ThreadPoolExecutor(1, "dni-sandbox") as threads:
        return threads.submit(copy_context().run, visit).result()


def _check(status: int) -> None:
    if status != 0:
        number = ctypes.get_errno() or errno.EINVAL
        raise OSError(number, os.strerror(number))
