# SPDX-License-Identifier: Apache-2.0
"""The lowest number that nobody has, of things that lie in folders of some hundred: read is the folder it is in."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import msgspec

from dni_driver.core.numbers import lowest_missing
from dni_driver.registry.zookeeper.damage import read_names
from dni_driver.registry.zookeeper.layout import SHARD_BITS
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
    """Looks for the lowest free number; looks again where others were faster, from the folder that it found."""

    def __init__(self, link: Link, numbered: Numbered) -> None:
        """Know nothing yet."""
        self._link = link
        self._numbered = numbered
        self._place: int | None = None

    def prepare(self) -> str:
        """Find the lowest folder that is not full, by what ZooKeeper counts in each; answer it."""
        shards = {name for name in self._link.children(self._numbered.folder) if self._is_ours(name)}
        paths = [self._numbered.shard(place) for place in range(len(shards))]
        stats = self._link.every_stat(paths)
        full = (
            stat is not None and stat.numChildren >= len(self._numbered.span(place))
            for place, stat in enumerate(stats)
        )
        self._place = next((place for place, is_full in enumerate(full) if not is_full), len(paths))
        return self._numbered.shard(self._place)

    def lowest(self) -> int | None:
        """Answer the number, None where all are taken."""
        if self._place is None:
            self.prepare()
        for place in count(self._place or 0):
            span = self._numbered.span(place)
            if not span:
                return None
            shard = self._numbered.shard(place)
            taken = read_names(self._link.address, shard, self._link.children(shard), self._numbered.number_of)
            found = lowest_missing(taken, span)
            if found is not None:
                self._place = place
                return found
        return None

    def _is_ours(self, name: str) -> bool:
        prefix = self._numbered.prefix
        return name.startswith(prefix) if prefix else True
