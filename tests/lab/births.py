# SPDX-License-Identifier: Apache-2.0
"""In which process namespace the children of this thread are born.

Entering a process namespace takes a fork. To let the process asked for be the direct child (its pid known,
its exit status ours), the calling thread turns its `pid_for_children`, starts the child, and turns it back.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

_CLONE_NEWPID = 0x20000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def in_new_namespace() -> Iterator[None]:
    """Make the first child started in the block process 1 of a new namespace."""
    with _restored():
        _checked(_libc.unshare(_CLONE_NEWPID))
        yield


@contextlib.contextmanager
def beside(pid: int) -> Iterator[None]:
    """Let children started in the block live in the process namespace of `pid`."""
    with _restored():
        _turn_to(pid)
        yield


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    try:
        yield
    finally:
        _turn_to(os.getpid())


def _turn_to(pid: int) -> None:
    namespace = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(namespace, _CLONE_NEWPID))
    finally:
        os.close(namespace)


def _checked(result: int) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
