# SPDX-License-Identifier: Apache-2.0
"""What the kernel has to know of all peers, followed peer by peer: one more among ten thousand is little work."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from dni_driver.core.data_plane.entries import Difference, Key, difference
from dni_driver.core.data_plane.paths import Situation, entries, rules
from dni_driver.core.peers import Peer


class Plan:
    """All entries that are wanted, and which peer each is there for."""

    def __init__(self) -> None:
        """Begin with no peers."""
        self.entries: dict[Key, str] = {}
        self.situation: Situation | None = None
        self._seen: Sequence[Peer] = ()
        self._by_id: dict[int, Peer] = {}
        self._of_peer: dict[int, dict[Key, str]] = {}
        # How many more entries the peers have than there are: those that several have.
        self._surplus = 0

    def follow(self, situation: Situation | None, peers: Sequence[Peer]) -> Difference:
        """Take what holds now, without a situation nothing; answer how the entries differ from those of before.

        A peer that is the same object as before is the same peer: those are not looked at.
        """
        if situation != self.situation or situation is None:
            return self._begin_anew(situation, peers)
        if peers is self._seen:
            return Difference(put={}, gone={})
        came, went = self._look(peers)
        changed = {agent: peer for agent, peer in came.items() if went.get(agent) != peer}
        before = [agent for agent, peer in went.items() if came.get(agent) != peer]
        gone = [self._of_peer.pop(agent) for agent in before]
        put = {agent: entries(peer, situation) for agent, peer in changed.items()}
        self._of_peer |= put
        return self._replace(gone, put.values())

    def _look(self, peers: Sequence[Peer]) -> tuple[dict[int, Peer], dict[int, Peer]]:
        """Answer who is another object than before, and who was, by agent IP; thousands that are not take no time."""
        before, self._seen, self._by_id = self._by_id, peers, dict(zip(map(id, peers), peers, strict=True))
        came = [self._by_id[one] for one in self._by_id.keys() - before.keys()]
        went = [before[one] for one in before.keys() - self._by_id.keys()]
        return {int(peer.agent_ip): peer for peer in came}, {int(peer.agent_ip): peer for peer in went}

    def _begin_anew(self, situation: Situation | None, peers: Sequence[Peer]) -> Difference:
        before = self.entries
        self.situation = situation
        self._look(peers if situation else ())
        self._of_peer = {int(peer.agent_ip): entries(peer, situation) for peer in self._seen} if situation else {}
        self.entries = _merged(self._of_peer.values())
        self._surplus = _total(self._of_peer.values()) - len(self.entries)
        self.entries |= rules(situation.overlays, situation.underlay.family) if situation else {}
        return difference(self.entries, before)

    def _replace(self, gone: Collection[dict[Key, str]], new: Collection[dict[Key, str]]) -> Difference:
        """Exchange entries of peers; what one gives up and another one has, or had already, stays, as the other's."""
        wanted, before = _merged(new), len(self.entries)
        left = _merged(gone).keys() - wanted.keys()
        if self._surplus:
            wanted |= {key: mine[key] for mine in self._of_peer.values() for key in left & mine.keys()}
        put = {key: value for key, value in wanted.items() if self.entries.get(key) != value}
        lost = {key: self.entries.pop(key) for key in left - wanted.keys()}
        self.entries |= put
        self._surplus += _total(new) - _total(gone) - (len(self.entries) - before)
        return Difference(put=put, gone=lost)


def _merged(of_peers: Iterable[dict[Key, str]]) -> dict[Key, str]:
    """Answer the entries of some peers; where several have one, as the last of them has it."""
    return {key: value for of_peer in of_peers for key, value in of_peer.items()}


def _total(of_peers: Iterable[dict[Key, str]]) -> int:
    return sum(map(len, of_peers))
