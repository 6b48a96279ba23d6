# SPDX-License-Identifier: Apache-2.0
"""What other agents do comes into the store, also where that could not be written at first."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from typing import cast

import pytest

from dni_driver.agent.following import Following
from dni_driver.agent.identity import Identity
from dni_driver.core.errors import StoreError, Unavailable
from dni_driver.core.peers import Peer, Vtep
from dni_driver.registry import News, Registry
from dni_driver.store import Store, peers

FIRST = IPv4Address("192.0.2.1")


class _Registry:
    """Tells what it has to tell, each once, and is away then."""

    def __init__(self, *told: News) -> None:
        """Take what it has to tell."""
        self._left = list(told)

    def news(self, _: float) -> News:
        """Answer the next."""
        if not self._left:
            raise Unavailable("the registry does not answer")
        return self._left.pop(0)


def peer(number: int) -> Peer:
    return Peer(agent_ip=FIRST + number, vtep=Vtep(IPv4Interface(f"44.128.0.{number}/20")), subnets=())


def test_news_that_the_store_could_not_take_are_taken_when_it_can(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry does not tell them again; nothing is missed, and whoever asks is answered from the store again."""
    registry = _Registry(
        News(peers=(peer(1),), whole=True), News(peers=(peer(2),)), News(gone=frozenset({FIRST + 1}))
    )
    current: list[bool] = []

    def full(*_: object) -> bool:
        raise StoreError("the disk is full")

    following = Following(
        store,
        cast("Registry", registry),
        Identity(store, lambda: FIRST, FIRST),
        peers_changed=lambda: None,
        overlays_changed=lambda: None,
        heard=lambda: current.append(following.is_current),
    )
    for call in ("put", "drop"):
        with monkeypatch.context() as patch:
            patch.setattr(peers, call, full)
            with pytest.raises(StoreError, match="the disk is full"):
                following.follow()
        assert not following.is_current
    with pytest.raises(Unavailable):
        following.follow()
    with store.read() as tx:
        assert peers.every(tx) == [peer(2)]
    assert current == [False, True, True]


def test_who_is_not_among_all_that_there_are_is_gone_and_this_host_joins_where_it_is_itself(store: Store) -> None:
    """It was forgotten while nobody heard of it here."""
    woken: list[str] = []
    following = Following(
        store,
        cast(
            "Registry",
            _Registry(
                News(peers=(peer(1), peer(2)), whole=True),
                News(peers=(peer(2),), whole=True),
                News(gone=frozenset({FIRST})),
            ),
        ),
        Identity(store, lambda: FIRST, FIRST),
        peers_changed=lambda: woken.append("kernel"),
        overlays_changed=lambda: woken.append("joining"),
        heard=lambda: None,
    )
    with pytest.raises(Unavailable):
        following.follow()
    with store.read() as tx:
        assert peers.every(tx) == [peer(2)]
    assert woken == ["kernel", "joining", "kernel", "joining", "joining"]
