# SPDX-License-Identifier: Apache-2.0
"""Follows what other agents do, into the store."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence

import structlog

from dni_driver.agent.identity import Identity
from dni_driver.core.agent_ip import in_order
from dni_driver.core.errors import DniError
from dni_driver.core.overlays import Address
from dni_driver.registry import News, Registry
from dni_driver.store import Store, peers

log = structlog.get_logger(__name__)

_WAIT = 10.0
_AGENTS_A_SECOND = 500.0
"""How many of them take part in a new overlay at once: all want the lowest agent subnet."""


class Following:
    """Has the store know the other agents as the registry does.

    `peers_changed` is called when it has, `overlays_changed` when overlays are others, this host was forgotten, or
    the registry was away meanwhile, and `heard` whenever the registry has answered.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        identity: Identity,
        *,
        peers_changed: Callable[[], None],
        overlays_changed: Callable[[], None],
        heard: Callable[[], None],
    ) -> None:
        """Know nothing yet."""
        self._store = store
        self._registry = registry
        self._identity = identity
        self._peers_changed = peers_changed
        self._overlays_changed = overlays_changed
        self._heard = heard
        self._stopping = threading.Event()
        self._untaken: News | None = None
        self._has_all = self._is_current = False

    @property
    def is_current(self) -> bool:
        """Tell whether the store has all agents as the registry told of them, with nothing missed since."""
        return self._is_current

    def follow(self) -> Sequence[str]:
        """Take over news until `stop`; raise Unavailable or StoreError where there are none to be had.

        What the store could not take is taken first when this is called again: the registry tells it once.
        """
        try:
            while not self._stopping.is_set():
                self._untaken = news = self._untaken or self._hear()
                if news:
                    self._take(news)
                self._untaken = None
                self._is_current = self._has_all = self._has_all or news.whole
        finally:
            self._is_current = False
        return ()

    def stop(self) -> None:
        """End `follow`; the registry is to be closed after this."""
        self._stopping.set()

    def _hear(self) -> News:
        """Answer news; after what is raised here the registry tells everything anew."""
        try:
            news = self._registry.news(_WAIT)
        except DniError:
            self._has_all = False
            raise
        self._heard()
        return news

    def _take(self, news: News) -> None:
        own = {self._identity.agent_ip(), self._identity.recorded()}
        others = [peer for peer in news.peers if peer.agent_ip not in own]
        with self._store.write() as tx:
            changed = peers.put(tx, others)
            changed |= peers.drop(tx, news.gone)
            if news.whole:
                changed |= peers.keep_only(tx, [peer.agent_ip for peer in others])
        if changed:
            self._tell(others, news.gone)
            self._peers_changed()
        if news.whole or own & news.gone:
            self._overlays_changed()
        elif news.overlays:
            self._overlays_changed_by_and_by()

    def _tell(self, others: Sequence[object], gone: frozenset[Address]) -> None:
        log.info("agents changed", known=len(others), gone=[str(agent) for agent in in_order(gone)])

    def _overlays_changed_by_and_by(self) -> None:
        """Call at once where there are few agents, and each at another moment where there are many."""
        with self._store.read() as tx:
            number = peers.number(tx)
        timer = threading.Timer(random.uniform(0.0, number / _AGENTS_A_SECOND), self._overlays_changed)  # noqa: S311 - no secret
        timer.daemon = True
        timer.start()
