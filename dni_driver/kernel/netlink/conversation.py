# SPDX-License-Identifier: Apache-2.0
"""Conversations with the kernel about links, addresses, routes and neighbours, by pyroute2.

Each has a socket of its own, opened in the calling thread's network namespace and closed at the end: nothing is
shared between threads, left open behind one, or taken along by a fork. To open one takes half a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pyroute2 import config
from pyroute2.iproute import IPRoute
from pyroute2.netlink import NLM_F_DUMP_INTR
from pyroute2.netlink.exceptions import NetlinkError

from dni_driver.core.deadline import within

Message = Any
"""What the kernel says about one object: fields by `[name]`, attributes by `.get(name)`."""

_PATIENCE = 5.0
_DUMP_TRIES = 5

_Read = TypeVar("_Read")

# A dump is read message by message: all of them at once would keep the garbage collector busy.
config.nlm_generator = True


@contextmanager
def conversation() -> Iterator[IPRoute]:
    """Talk with the kernel; what it refuses and nobody tolerates is raised as OSError, in its own words.

    Raises DeadlineExceeded where the caller's time is up already; the kernel itself has its answers ready at once.
    """
    within(_PATIENCE)
    with in_errno(), IPRoute(ext_ack=True) as kernel:
        yield kernel


@contextmanager
def in_errno() -> Iterator[None]:
    """Raise what the kernel refuses as OSError."""
    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, error.args[-1]) from error


@contextmanager
def tolerating(*numbers: int) -> Iterator[list[int]]:
    """Go on behind the block where the kernel refuses with one of these error numbers; give those that it did."""
    refused: list[int] = []
    try:
        yield refused
    except NetlinkError as error:
        if error.code not in numbers:
            raise
        refused.append(error.code)


def dump(
    ask: Callable[..., Iterable[Message]], read: Callable[[Message], _Read | None], **family: int
) -> list[_Read]:
    """Answer what `read` makes of all objects of a kind, but for None; asked again where they changed meanwhile.

    `ask` is a method of the conversation: `kernel.link`, `kernel.addr`, `kernel.route`.
    """
    for _ in range(_DUMP_TRIES):
        changed = 0
        found = []
        for message in ask("dump", dump_filter=None, **family):
            changed |= message["header"]["flags"] & NLM_F_DUMP_INTR
            found.append(read(message))
        if not changed:
            break
    return [value for value in found if value is not None]
