# SPDX-License-Identifier: Apache-2.0
"""What the kernel has to know of all peers, followed peer by peer: one more among ten thousand is little work."""

from __future__ import annotations

from collections.abc import Iterable

from dni_driver.core.entries import Difference, Key, difference
from dni_driver.core.paths import Situation, entries, rules
from dni_driver.core.peers import Peer


class Plan:
    """All entries that are wanted, and which peer each is there for."""

    def __init__(self) -> None:
        """Begin with no peers."""
        self.entries: dict[Key, str] = {}
        self.situation: Situation | None = None
        self._peers: dict[int, Peer] = {}
        self._of_peer: dict[int, dict[Key, str]] = {}

    def follow(self, situation: Situation | None, peers: Iterable[Peer]) -> Difference:
        """Take what holds now, without a situation nothing; answer how the entries differ from those of before."""
        if situation != self.situation or situation is None:
            return self._begin_anew(situation, peers)
        now = {int(peer.agent_ip): peer for peer in peers}
        changed = [agent for agent, peer in now.items() if _is_new(peer, self._peers.get(agent))]
        before = [agent for agent in self._peers if agent not in now] + [a for a in changed if a in self._peers]
        gone = {key: value for agent in before for key, value in self._of_peer.pop(agent).items()}
        put = {agent: entries(now[agent], situation) for agent in changed}
        self._of_peer |= put
        self._peers = now
        return self._replace(gone, {key: value for of_peer in put.values() for key, value in of_peer.items()})

    def _begin_anew(self, situation: Situation | None, peers: Iterable[Peer]) -> Difference:
        before = self.entries
        self.situation = situation
        self._peers = {int(peer.agent_ip): peer for peer in peers} if situation else {}
        self._of_peer = {agent: entries(peer, situation) for agent, peer in self._peers.items()} if situation else {}
        self.entries = {key: value for of_peer in self._of_peer.values() for key, value in of_peer.items()}
        self.entries |= rules(situation.overlays, situation.underlay.family) if situation else {}
        return difference(self.entries, before)

    def _replace(self, gone: dict[Key, str], new: dict[Key, str]) -> Difference:
        """Exchange entries; what a peer gives up and another one has, or had already, stays."""
        lost = {key: value for key, value in gone.items() if key not in new and self.entries.get(key) == value}
        put = {key: value for key, value in new.items() if self.entries.get(key) != value}
        for key in lost:
            del self.entries[key]
        self.entries |= put
        return Difference(put=put, gone=lost)


def _is_new(peer: Peer, before: Peer | None) -> bool:
    return peer is not before and peer != before
