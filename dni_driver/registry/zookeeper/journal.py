# SPDX-License-Identifier: Apache-2.0
"""The journal: whoever changes something writes an entry in the same transaction, and everybody else follows.

ZooKeeper numbers the entries without a gap, whatever is deleted or fails. So who has read entry 7 waits for entry 8
by its name: a change costs each agent that follows a notification and two small questions, whatever the number of
agents; many changes at once cost it little more than a question each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import takewhile
from operator import itemgetter
from time import monotonic
from typing import Any

from kazoo.protocol.states import EventType

from dni_driver.core.errors import Unavailable
from dni_driver.registry.zookeeper.damage import understood
from dni_driver.registry.zookeeper.layout import JOURNAL, Entry, encode
from dni_driver.registry.zookeeper.link import Changes, Conflict, Link

KEPT = 1024
"""Entries: who was away for more reads everything anew."""
_TRIMMED_EVERY = 128
_CHECKED_EVERY = 30.0
"""Seconds after which a reader compares its place with the journal's end, should a notification be lost."""
_AT_ONCE = 64
"""Entries that are asked for together where many have come."""
_PREFIX = "e-"


def append(changes: Changes, entry: Entry) -> None:
    """Have a transaction say what it changes."""
    changes.append(f"{JOURNAL}/{_PREFIX}", encode(entry))


def trim(link: Link, results: Iterable[Any]) -> None:
    """Delete old entries now and then; `results` are those of a transaction that may have appended one.

    An entry that stays because this was cut short goes with the next.
    """
    written = [result for result in results if isinstance(result, str) and f"/{JOURNAL}/{_PREFIX}" in result]
    if not written or _number(written[-1]) % _TRIMMED_EVERY:
        return
    oldest = _number(written[-1]) - KEPT
    with suppress(Unavailable):
        names = [name for name in link.children(JOURNAL) if name.startswith(_PREFIX) and _number(name) < oldest]
        for start in range(0, len(names), _TRIMMED_EVERY):
            _delete(link, names[start : start + _TRIMMED_EVERY])


class Reader:
    """A place in the journal."""

    def __init__(self, link: Link) -> None:
        """Stand nowhere yet: everything has to be read first."""
        self._link = link
        self._next: int | None = None
        self._told: int | None = None
        self._watch = partial(self._tell, -1)
        self._state = (-1, -1)
        self._checked = 0.0
        self._born = -1

    def begin(self) -> None:
        """Stand at the end: what is read after this is as new as that, or newer."""
        self._state = (self._link.epoch, self._link.turns)
        self._checked = monotonic()
        # Of another journal, that was deleted, an entry may have been told that is not there yet in this one.
        self._told = None
        self._next, self._born = _end(self._link)

    @property
    def place(self) -> int | None:
        """Answer the number of the entry that is waited for; None nowhere."""
        return self._next

    def go_back(self, place: int) -> bool:
        """Stand at an earlier place, from where all entries are still there; tell whether that can be."""
        if self._next is None or place > self._next:
            return False
        if place < self._next and self._link.exists(_path(place)) is None:
            return False
        self._next = place
        return True

    def lose(self) -> None:
        """Stand nowhere."""
        self._next = None

    def entries(self) -> list[Entry] | None:
        """Answer what was written since, and have the link rung when there is more; None: read everything."""
        if self._next is None or not self._is_sound(self._next):
            return None
        found: list[Entry] = []
        together = 1
        while self._is_there(self._next):
            read = self._read(self._next, together)
            if not read:
                return None
            found += read
            self._next += len(read)
            together = min(2 * together, _AT_ONCE) if len(read) == together else 1
        return found

    def _is_there(self, place: int) -> bool:
        """Tell whether an entry is there; where it is not, have the link rung when it comes."""
        return self._told == place or self._link.exists(_path(place), self._watching(place)) is not None

    def _watching(self, place: int) -> Callable[[Any], None]:
        """Answer the same as before for the same place: ZooKeeper's client keeps each that it is given."""
        if self._watch.args != (place,):
            self._watch = partial(self._tell, place)
        return self._watch

    def _tell(self, place: int, event: Any) -> None:
        if event.type == EventType.CREATED:
            self._told = place
        self._link.rung.set()

    def _read(self, place: int, number: int) -> list[Entry]:
        """Answer so many entries at the most, without a gap."""
        paths = [_path(one) for one in range(place, place + number)]
        there = takewhile(itemgetter(1), zip(paths, self._link.every(paths), strict=True))
        return [understood(self._link.address, one.data, Entry, path) for path, one in there if one is not None]

    def _is_sound(self, place: int) -> bool:
        """Tell whether the entry of this place is there or to come; looked at after a change of state, and rarely."""
        state = (self._link.epoch, self._link.turns)
        if state == self._state and monotonic() - self._checked < _CHECKED_EVERY:
            return True
        if state[0] != self._state[0]:
            return False
        self._state, self._checked = state, monotonic()
        end, born = _end(self._link)
        if born != self._born:
            return False
        return place == end or (place < end and self._link.exists(_path(place)) is not None)


def _end(link: Link) -> tuple[int, int]:
    """Answer the number of the next entry, and which journal that is: one that was deleted begins anew.

    ZooKeeper counts what was created, and deleted, below a node.
    """
    stat = link.exists(JOURNAL)
    return ((stat.cversion + stat.numChildren) // 2, stat.czxid) if stat is not None else (0, -1)


def _delete(link: Link, names: Sequence[str]) -> None:
    """Delete some entries; where another deletes just these, it is left to it, or to the next time."""
    changes = link.transaction()
    for name in names:
        changes.delete(f"{JOURNAL}/{name}")
    with suppress(Conflict):
        link.commit(changes)


def _path(number: int) -> str:
    return f"{JOURNAL}/{_PREFIX}{number:010d}"


def _number(path: str) -> int:
    return int(path.rpartition(_PREFIX)[2])
