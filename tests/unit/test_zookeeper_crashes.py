# SPDX-License-Identifier: Apache-2.0
"""An agent that ends at any write to ZooKeeper leaves a registry that is whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import count

import msgspec
import pytest

from dni_driver.core.errors import Refused
from dni_driver.core.overlays import Address
from dni_driver.core.peers import Peer
from dni_driver.registry.zookeeper import ZooKeeperRegistry, journal
from tests.lab.zookeeper import ZooKeeper
from tests.unit.registries import DCOS, DUAL, FIRST, audit, expire, host, life, opening

pytestmark = pytest.mark.zookeeper


class Died(BaseException):
    """The end of a process."""


def ends_at(place: int, kinds: set[str]) -> Callable[[str], None]:
    """Answer a crash point at which a process ends, counted from its start; note of which kind it is."""
    numbers = count()

    def end(kind: str) -> None:
        if next(numbers) == place:
            kinds.add(kind)
            raise Died

    return end


def follow(registry: ZooKeeperRegistry, peers: dict[Address, Peer]) -> dict[Address, Peer]:
    """Take over all news there are into what was known before."""
    while news := registry.news(0):
        peers = {} if news.whole else {agent: peer for agent, peer in peers.items() if agent not in news.gone}
        peers |= {peer.agent_ip: peer for peer in news.peers}
    return peers


@pytest.mark.timeout(900)
def test_an_agent_that_ends_at_any_write_blocks_nobody_and_goes_on_where_it_was(
    zookeeper: ZooKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other time its session is over when it comes back. Whoever followed all along knows what is so."""
    monkeypatch.setattr(journal, "KEPT", 4)
    monkeypatch.setattr(journal, "_TRIMMED_EVERY", 4)
    monkeypatch.setattr(journal, "_CHECKED_EVERY", 0.0)
    kinds: set[str] = set()
    for place in count():
        with opening(f"zookeeper://{zookeeper.address}/dni-crash-{place}") as connect:
            gone = connect()
            gone.register(msgspec.structs.replace(host(9), reclaim_after=0.001))
            gone.close()
            other = connect()
            known = follow(other, {})
            dying = connect(crash_point=ends_at(place, kinds))
            try:
                life(dying)
            except Died:
                pass
            else:
                break
            with suppress(Refused):
                other.define(DCOS)
            other.register(host(5))
            theirs = other.lease("dcos", 4, FIRST + 5)
            audit(other)
            known = follow(other, known)
            if place % 2:
                expire(dying)
            again = connect()
            life(again)
            audit(again)
            assert again.overlays() == [DUAL]
            alive = [member.agent_ip for member in again.members() if member.alive]
            assert alive == [FIRST, FIRST + 5]
            assert [one.held for one in again.leases(FIRST + 5)] == [theirs]
            assert theirs not in [one.held for one in again.leases(FIRST)]
            assert follow(other, known) == follow(again, {})
    assert place > 80
    assert kinds == {"before a folder", "before a transaction", "after a transaction", "before a removal"}
