# SPDX-License-Identifier: Apache-2.0
"""A line for those who all want the lowest that is free: one after the other, and nobody looks in vain.

Who is alone takes without a line. Else each makes an ephemeral node that ZooKeeper numbers without a gap, and waits
for the node before its own to go; that goes in the transaction that takes. The line only saves work: what keeps two
from having the same is the transaction. So who waits behind one that hangs goes ahead.
"""

from __future__ import annotations

import threading
from typing import Self

from dni_driver.core.deadline import within
from dni_driver.registry.zookeeper.layout import LINE
from dni_driver.registry.zookeeper.link import Changes, Link

_PREFIX = "q-"
_HANGS_AFTER = 1.0
"""Seconds that the first in the line has for itself."""
_SELDOM = 8.0
"""Seconds between two looks whether it is the first that one waits for, in a long line."""


class Turn:
    """A place in the line, once it is needed, until it is left."""

    def __init__(self, link: Link) -> None:
        """Stand nowhere yet."""
        self._link = link
        self._number: int | None = None

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the line where no transaction did it; there may be no time left to wait for that."""
        if self._number is not None:
            self._link.drop(_path(self._number))
            self.left()

    def queue(self) -> None:
        """Stand in the line, unless that is so already."""
        if self._number is None:
            changes = self._link.transaction()
            changes.stand_in_line(f"{LINE}/{_PREFIX}")
            (path,) = self._link.commit(changes)
            self._number = int(path.rpartition(_PREFIX)[2])

    def wait(self) -> None:
        """Return when it is this one's turn: at once where nobody stands in the line."""
        if self._number is None:
            there = self._link.exists(LINE)
            if there is None or there.numChildren == 0:
                return
            self.queue()
        self._wait_behind(self._number or 0)

    def _wait_behind(self, number: int) -> None:
        gone = threading.Event()
        if self._link.get(_path(number - 1), lambda _: gone.set()) is None:
            return
        patience = _HANGS_AFTER
        while not gone.wait(within(patience)):
            if self._link.exists(_path(number - 2)) is None:
                return
            patience = min(patience * 2, _SELDOM)

    def leave(self, changes: Changes) -> None:
        """Have a transaction leave the line."""
        if self._number is not None:
            changes.delete(_path(self._number))

    def left(self) -> None:
        """Take note that it was done."""
        self._number = None


def _path(number: int) -> str:
    return f"{LINE}/{_PREFIX}{number:010d}"
