# SPDX-License-Identifier: Apache-2.0
"""News for an agent: what others wrote, out of the journal, as peers.

Where there are many agents, each looks a little later: so ZooKeeper is not asked by all at once, and many changes are
read together.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from ipaddress import ip_address
from time import monotonic

from dni_driver.core.errors import Unavailable
from dni_driver.core.overlays import Address
from dni_driver.core.peers import Peer
from dni_driver.registry.interface import News
from dni_driver.registry.zookeeper import closing
from dni_driver.registry.zookeeper.digest import EVERY, Digest
from dni_driver.registry.zookeeper.ground import Ground
from dni_driver.registry.zookeeper.journal import Reader
from dni_driver.registry.zookeeper.layout import Entry, Record, peer_of

_AGENTS_A_SECOND = 10_000.0
"""How many of them look at the same change."""
_LATEST = 1.0
_DIGEST_WITHIN = 10.0
"""Seconds in which one of those who know of some change writes it into the digest."""


class Follower:
    """Knows every agent's record, and so what is news about them. For one thread alone."""

    def __init__(self, ground: Ground) -> None:
        """Know nothing."""
        self._ground = ground
        self._link = ground.link
        self._closed: tuple[int, int] | None = None
        self._reader = Reader(ground.link)
        self._digest = Digest(ground.link)
        self._digested = 0
        self._digest_at: float | None = None
        self._records: dict[Address, Record] = {}
        self._names: dict[int, str] = {}

    def news(self, seconds: float) -> News:
        """Answer what has changed (Registry.news)."""
        try:
            return self._wait(monotonic() + seconds)
        except Unavailable:
            if self._link.closed:
                return News()
            raise

    def _wait(self, ends: float) -> News:
        while not self._link.closed:
            self._link.rung.clear()
            found = self._look()
            left = ends - monotonic()
            if found or left <= 0:
                return found
            if self._link.rung.wait(left):
                self._stand_back(ends - monotonic())
        return News()

    def _stand_back(self, left: float) -> None:
        latest = min(len(self._records) / _AGENTS_A_SECOND, _LATEST, max(left, 0.0))
        time.sleep(random.uniform(0.0, latest))  # noqa: S311 - no secret

    def _look(self) -> News:
        with ExitStack() as undo:
            # What was read and not told is lost: begin anew.
            undo.callback(self._reader.lose)
            self._ground.prepare()
            self._close_to_others()
            entries = self._reader.entries()
            news = self._everything() if entries is None else self._changes(entries)
            self._renew_digest()
            undo.pop_all()
        return news

    def _close_to_others(self) -> None:
        """Close what others made without this host's password, in each registry once: nobody else has time for it."""
        place = (self._link.epoch, self._ground.born)
        if place != self._closed:
            closing.close(self._link)
            self._closed = place

    def _everything(self) -> News:
        self._reader.begin()
        self._names = self._ground.definitions()[0].names()
        if not self._has_digest():
            self._reader.begin()
            self._records = self._ground.records()
        peers = (self._peer(agent) for agent in self._records)
        return News(peers=tuple(peer for peer in peers if peer), whole=True, overlays=True)

    def _has_digest(self) -> bool:
        """Take all records from the digest and what the journal says since, where there is all of that."""
        page = self._digest.read()
        if page is None or not self._reader.go_back(page.place):
            return False
        entries = self._reader.entries()
        if entries is None:
            return False
        self._records = {ip_address(agent): record for agent, record in page.records.items()}
        self._digested = page.place
        for entry in entries:
            if entry.agent is not None:
                self._note(ip_address(entry.agent), entry.record)
        return True

    def _renew_digest(self) -> None:
        """Have the digest renewed when it is old, by whoever comes first of all who follow."""
        place = self._reader.place
        if place is None or (place - self._digested < EVERY and self._digested):
            return
        if self._digest_at is None:
            self._digest_at = monotonic() + random.uniform(0.0, _DIGEST_WITHIN)  # noqa: S311 - no secret
        if monotonic() >= self._digest_at:
            self._digest.renew(place, self._records)
            self._digested, self._digest_at = place, None

    def _changes(self, entries: list[Entry]) -> News:
        if not entries:
            return News()
        before = {agent: self._peer(agent) for agent in self._touched(entries)}
        overlays = any(entry.agent is None for entry in entries)
        lost = self._renew_names() if overlays else frozenset()
        before |= {agent: None for agent, record in self._records.items() if _holds(record, lost)}
        for entry in entries:
            if entry.agent is not None:
                self._note(ip_address(entry.agent), entry.record)
        after = {agent: self._peer(agent) for agent in before}
        return News(
            peers=tuple(peer for agent, peer in after.items() if peer is not None and peer != before[agent]),
            gone=frozenset(agent for agent, peer in after.items() if peer is None),
            overlays=overlays,
        )

    def _touched(self, entries: list[Entry]) -> list[Address]:
        return [ip_address(entry.agent) for entry in entries if entry.agent is not None]

    def _renew_names(self) -> frozenset[int]:
        """Read which overlays there are; answer the numbers of those that are gone."""
        known = self._names
        self._names = self._ground.definitions()[0].names()
        return frozenset(known.keys() - self._names.keys())

    def _note(self, agent: Address, record: Record | None) -> None:
        if record is None:
            self._records.pop(agent, None)
        else:
            self._records[agent] = record

    def _peer(self, agent: Address) -> Peer | None:
        record = self._records.get(agent)
        return peer_of(agent, record, self._names) if record else None


def _holds(record: Record, numbers: frozenset[int]) -> bool:
    return any(one.overlay in numbers for one in record.subnets)
