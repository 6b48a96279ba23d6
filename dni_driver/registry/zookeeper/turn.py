# SPDX-License-Identifier: Apache-2.0
"""A line for those who all want the lowest that is free: nobody looks in vain, and nobody waits for each before it.

Who is alone takes without a line. Else each makes an ephemeral node that ZooKeeper numbers without a gap, and waits
until that says which number it may take. Who has nobody before it that still waits looks once, and writes into the
nodes of all who wait, in one transaction, which numbers are theirs, lowest first. They take them beside each other,
each in a transaction in which its node goes too; until then the number is kept for it. The line only saves work: what
keeps two from having the same is still the transaction that takes. So one that hangs is passed by.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Self

from dni_driver.core.deadline import within
from dni_driver.core.errors import DeadlineExceeded
from dni_driver.registry.zookeeper.link import Changes, Conflict, Found, Link
from dni_driver.registry.zookeeper.numbers import Search

TOGETHER = 256
"""How many are told their numbers at once."""
_PREFIX = "q-"
_NONE_LEFT = b"-"
_HANGS_AFTER = 1.0
"""Seconds that the first in the line has for itself."""
_STANDS_STILL = 4.0
_SELDOM = 32.0
"""Seconds between two looks, in the end: from when on a line that does not move is seen, and in a long one."""
_AHEAD = 512
"""As many may have been told, and not have taken yet: whoever hands out next reads what is kept for each of them."""
_PAUSE = 0.25
_PAUSES = 20
"""For so many of these, in seconds, who hands out next waits for those to take; some may hang."""
_TRIES = 2
"""With one number: what a transaction rests on beside it may change while one waits."""


class Turn:
    """A place in the line, once it is needed, until it is left."""

    def __init__(self, link: Link, make_room: Callable[[Sequence[str]], None]) -> None:
        """Stand nowhere yet; `make_room` makes the folders of nodes."""
        self._link = link
        self._make_room = make_room
        self._line = ""
        self._place: int | None = None
        self._is_crowded = False
        self._tries = 0
        self._pauses = 0

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the line where no transaction did it; there may be no time left to wait for that."""
        if self._place is not None:
            self._link.drop(self._path(self._place))
            self.left()

    def number(self, search: Search) -> int | None:
        """Answer the lowest number that nobody has and nobody is about to take; None where there is none."""
        if self._place is None:
            if not self._is_crowded and self._is_alone(search.line):
                return next(iter(self._look(search, 1)), None)
            self.stand(search.line)
        try:
            return self._told(search)
        except DeadlineExceeded:
            raise DeadlineExceeded(
                "many agents join at once, and the turn of this one has not come: it is tried again by itself"
            ) from None

    def stand(self, line: str) -> None:
        """Stand in a line."""
        self._line, self._tries, self._pauses = line, 0, 0
        try:
            self._place = self._stood()
        except Conflict:
            self._link.make_folders([line])
            self._place = self._stood()

    def again(self) -> None:
        """Take note that somebody was faster: from now on stand in the line, at its end where the number is gone."""
        self._is_crowded = True
        self._tries += 1
        if self._place is not None and self._tries == _TRIES:
            self._link.drop(self._path(self._place))
            self.left()

    def leave(self, changes: Changes) -> None:
        """Have a transaction leave the line."""
        if self._place is not None:
            changes.delete(self._path(self._place))

    def left(self) -> None:
        """Take note that it was done."""
        self._place = None

    def _stood(self) -> int:
        name = self._link.stand_in_line(f"{self._line}/{_PREFIX}")
        return int(name.rpartition(_PREFIX)[2])

    def _is_alone(self, line: str) -> bool:
        there = self._link.exists(line)
        return there is None or there.numChildren == 0

    def _told(self, search: Search) -> int | None:
        """Wait until the own node says which number it is; hand out where nobody before does."""
        place = self._place or 0
        while True:
            changed = threading.Event()
            mine = self._link.get(self._path(place), _setting(changed))
            if mine is None:
                self.left()
                raise Conflict("a place in the line went with its session")
            if mine.data:
                return None if mine.data == _NONE_LEFT else int(mine.data)
            before = self._link.get(self._path(place - 1), _setting(changed))
            if _is_done(before) or not self._is_served(changed, place):
                self._hand_out(search, place)

    def _is_served(self, changed: threading.Event, place: int) -> bool:
        """Wait until something has changed; tell whether it has before those in front were given up.

        That is where the one before is the first and does nothing, or nobody has handed out anything for long:
        several may hang, and a place may be left of one whose wish to stand here was answered too late.
        """
        patience, handed_out = _HANGS_AFTER, -1
        while not changed.wait(within(random.uniform(patience / 2, patience))):  # noqa: S311 - no secret
            line = self._link.exists(self._line)
            if line is None or _is_done(self._link.get(self._path(place - 2))) or line.version == handed_out:
                return False
            if patience >= _STANDS_STILL:
                handed_out = line.version
            patience = min(patience * 2, _SELDOM)
        return True

    def _hand_out(self, search: Search, first: int) -> None:
        """Tell who waits, from a place on, which numbers are theirs; where somebody else does so now, do nothing."""
        line = self._link.get(self._line)
        if line is None:
            return
        every = sorted(f"{self._line}/{name}" for name in self._link.children(self._line))
        before = [path for path in every if path < self._path(first)]
        if len(before) > _AHEAD and self._pauses < _PAUSES:
            self._pauses += 1
            time.sleep(within(_PAUSE))
            return
        standing = self._standing([*before, *every[len(before) :][:TOGETHER]])
        waiting = [(path, node.version) for path, node in standing if not node.data and path >= self._path(first)]
        if not waiting:
            # Who was first has told all of them since this one looked.
            return
        numbers = self._look(search, len(waiting), [node for _, node in standing])
        changes = self._link.transaction()
        changes.put(self._line, b"", line.version)
        for (path, version), number in zip_longest(waiting, numbers):
            changes.put(path, _NONE_LEFT if number is None else str(number).encode(), version)
        with suppress(Conflict):
            self._link.commit(changes)

    def _standing(self, paths: Sequence[str]) -> list[tuple[str, Found]]:
        """Answer those nodes of a line that are still there."""
        return [(path, node) for path, node in zip(paths, self._link.every(paths), strict=True) if node]

    def _look(self, search: Search, wanted: int, told: Sequence[Found] = ()) -> list[int]:
        """Answer the lowest numbers that are free and kept for nobody; the folders that they go into are there."""
        kept = frozenset(int(node.data) for node in told if node.data.isdigit())
        numbers = search.lowest(wanted, kept)
        self._make_room([f"{search.shard_of(number)}/" for number in numbers])
        return numbers

    def _path(self, place: int) -> str:
        return f"{self._line}/{_PREFIX}{place:010d}"


def _setting(event: threading.Event) -> Callable[[object], None]:
    """Answer what sets an event when a node that is watched has changed."""
    return lambda _: event.set()


def _is_done(node: Found | None) -> bool:
    """Tell whether one who stood in the line waits no more."""
    return node is None or node.data != b""
