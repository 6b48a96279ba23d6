# SPDX-License-Identifier: Apache-2.0
"""News for an agent: what others wrote, out of the journal, as peers."""

from __future__ import annotations

from ipaddress import ip_address
from time import monotonic

from dni_driver.core.overlays import Address
from dni_driver.core.peers import Peer
from dni_driver.registry.interface import News
from dni_driver.registry.zookeeper.ground import Ground
from dni_driver.registry.zookeeper.journal import Reader
from dni_driver.registry.zookeeper.layout import Entry, Record, peer_of


class Follower:
    """Knows every agent's record, and so what is news about them. For one thread alone."""

    def __init__(self, ground: Ground) -> None:
        """Know nothing."""
        self._ground = ground
        self._link = ground.link
        self._reader = Reader(ground.link)
        self._records: dict[Address, Record] = {}
        self._names: dict[int, str] = {}

    def news(self, seconds: float) -> News:
        """Answer what has changed (Registry.news)."""
        ends = monotonic() + seconds
        while not self._link.closed:
            self._link.rung.clear()
            found = self._look()
            left = ends - monotonic()
            if found or left <= 0:
                return found
            self._link.rung.wait(left)
        return News()

    def _look(self) -> News:
        try:
            self._ground.prepare()
            entries = self._reader.entries()
            return self._everything() if entries is None else self._changes(entries)
        except BaseException:
            # What was read and not told is lost: begin anew.
            self._reader.lose()
            raise

    def _everything(self) -> News:
        self._reader.begin()
        self._names = self._ground.definitions()[0].names()
        self._records = self._ground.records()
        peers = (self._peer(agent) for agent in self._records)
        return News(peers=tuple(peer for peer in peers if peer), whole=True, overlays=True)

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
