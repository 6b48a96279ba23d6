# SPDX-License-Identifier: Apache-2.0
"""What lies in a ZooKeeper: how large its largest node is, and how many lie below one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from kazoo.client import KazooClient

_AT_A_TIME = 500


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """The node with the most bytes, and the one with the most children, each with how many."""

    largest: str = ""
    bytes: int = 0
    widest: str = ""
    children: int = 0

    def with_one(self, path: str, stat: Any) -> Survey:
        """Answer it with one node more."""
        found = self
        if stat.dataLength > self.bytes:
            found = msgspec.structs.replace(found, largest=path, bytes=stat.dataLength)
        if stat.numChildren > self.children:
            found = msgspec.structs.replace(found, widest=path, children=stat.numChildren)
        return found


def survey(address: str, place: str) -> Survey:
    """Look at every node from `place` on."""
    client = KazooClient(address)
    client.start()
    found, level = Survey(), [place]
    while level:
        stats = _each(client.exists_async, level)
        for path, stat in stats:
            found = found.with_one(path, stat)
        parents = [path for path, stat in stats if stat.numChildren]
        level = [f"{path}/{name}" for path, names in _each(client.get_children_async, parents) for name in names]
    client.stop()
    client.close()
    return found


def _each(ask: Callable[[str], Any], paths: Sequence[str]) -> list[tuple[str, Any]]:
    """Ask for each of the nodes; those that have gone meanwhile are left out."""
    answers: list[tuple[str, Any]] = []
    for first in range(0, len(paths), _AT_A_TIME):
        asked = [(path, ask(path)) for path in paths[first : first + _AT_A_TIME]]
        answers += [(path, one.get()) for path, one in asked]
    return [(path, answer) for path, answer in answers if answer is not None]
