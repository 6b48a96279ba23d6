# SPDX-License-Identifier: Apache-2.0
"""The lowest numbers that nobody has, of things in folders of some hundred: read is the folder they are in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import count, islice

import msgspec

from dni_driver.registry.zookeeper.damage import read_names
from dni_driver.registry.zookeeper.layout import LINE, SHARD_BITS
from dni_driver.registry.zookeeper.link import Link


class Numbered(msgspec.Struct, frozen=True, kw_only=True):
    """Things with numbers from `first` to `last`, as they lie below `folder`; `number_of` reads a name."""

    folder: str
    prefix: str = ""
    first: int
    last: int
    number_of: Callable[[str], int]

    def shard(self, place: int) -> str:
        """Answer the folder of one place: its numbers differ in their low bits alone."""
        return f"{self.folder}/{self.prefix}{place:x}"

    def span(self, place: int) -> range:
        """Answer the numbers of one place."""
        start = place << SHARD_BITS
        return range(max(self.first, start), min(self.last, start + (1 << SHARD_BITS) - 1) + 1)


class Search:
    """Looks for the lowest free numbers."""

    def __init__(self, link: Link, numbered: Numbered) -> None:
        """Know nothing yet."""
        self._link = link
        self._numbered = numbered

    @property
    def line(self) -> str:
        """Answer where those stand who want one of these numbers."""
        return f"{LINE}/{self._numbered.folder}/{self._numbered.prefix}".rstrip("-/")

    def shard_of(self, number: int) -> str:
        """Answer the folder that a number lies in."""
        return self._numbered.shard(number >> SHARD_BITS)

    def lowest(self, wanted: int, kept: Collection[int] = ()) -> list[int]:
        """Answer so many numbers that are not taken, nor kept for others; fewer where there are no more."""
        found: list[int] = []
        for place in count(self._first_place()):
            span = self._numbered.span(place)
            if not span or len(found) == wanted:
                break
            taken = {*kept, *self._taken(place)}
            found += islice((number for number in span if number not in taken), wanted - len(found))
        return found

    def _taken(self, place: int) -> list[int]:
        shard = self._numbered.shard(place)
        return read_names(self._link.address, shard, self._link.children(shard), self._numbered.number_of)

    def _first_place(self) -> int:
        """Find the lowest folder that is not full, by what ZooKeeper counts in each."""
        shards = {name for name in self._link.children(self._numbered.folder) if self._is_ours(name)}
        stats = self._link.every_stat([self._numbered.shard(place) for place in range(len(shards))])
        full = (
            stat is not None and stat.numChildren >= len(self._numbered.span(place))
            for place, stat in enumerate(stats)
        )
        return next((place for place, is_full in enumerate(full) if not is_full), len(stats))

    def _is_ours(self, name: str) -> bool:
        prefix = self._numbered.prefix
        return name.startswith(prefix) if prefix else True
