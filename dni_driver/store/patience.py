# SPDX-License-Identifier: Apache-2.0
"""Waiting for more room: the agent leases it before it is needed, and is overtaken where very many start at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dni_driver.core.deadline import within
from dni_driver.core.errors import Crowded, DeadlineExceeded
from dni_driver.store import Store
from dni_driver.store.claiming import has_room

ROOM_SECONDS = 5.0
"""How long a start waits for one more agent subnet. The agent notices within a quarter of a second."""

_POLL_SECONDS = 0.05

T = TypeVar("T")


def when_there_is_room(store: Store, act: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """Do what takes an address; where the pool is full, do it again once it has room, or none is to be expected.

    Waits by reading: the agent, which is to write, is not kept from it.
    """
    looks = round(ROOM_SECONDS / _POLL_SECONDS)
    while True:
        try:
            return act()
        except Crowded as error:
            while looks and not _has_room(store, error.pool):
                _pause(sleep, error)
                looks -= 1
            if not looks:
                raise
            looks -= 1


def _has_room(store: Store, pool: str) -> bool:
    with store.read() as tx:
        return has_room(tx, pool)


def _pause(sleep: Callable[[float], None], error: Crowded) -> None:
    try:
        sleep(within(_POLL_SECONDS))
    except DeadlineExceeded:
        raise error from None
