# SPDX-License-Identifier: Apache-2.0
"""What this host tells the cluster of itself, again and again: that it lives, and which overlays it uses."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from dni_driver.agent.joining import Joining
from dni_driver.agent.occupancy import used_overlays
from dni_driver.agent.ports import Time
from dni_driver.core.errors import DniError
from dni_driver.core.overlays import Address
from dni_driver.registry import Registry
from dni_driver.store import Store, fence

log = structlog.get_logger(__name__)

_LONGEST = 300.0
"""Seconds between two signs of life: an agent that is gone is shown as last seen so exactly."""
_SIGNS = 20.0
"""How many signs of life fit into the time after which an agent is reclaimed."""


class Presence:
    """Tells, and gives up those who are not heard of where that was agreed."""

    def __init__(
        self, store: Store, registry: Registry, joining: Joining, reclaim_after: float | None, time: Time
    ) -> None:
        """`reclaim_after`: so many seconds unseen, agents lose what they hold; None for never."""
        self._store = store
        self._registry = registry
        self._joining = joining
        self._reclaim_after = reclaim_after
        self._time = time
        self._told = float("-inf")

    def tell(self) -> Sequence[str]:
        """Tell what is due; answer in words why this host hands out no addresses, if it does not."""
        agent_ip, settlement = self._joining.registered_as, self._joining.settlement
        if agent_ip is None:
            return self._closed()
        try:
            self._registry.use(agent_ip, self._used())
            if settlement is not None and self._time.monotonic() - self._told >= self._interval():
                self._sign(agent_ip, settlement)
        except DniError as error:
            return [str(error), *self._closed()]
        return self._closed()

    def _interval(self) -> float:
        return _LONGEST if self._reclaim_after is None else min(_LONGEST, self._reclaim_after / _SIGNS)

    def _sign(self, agent_ip: Address, settlement: object) -> None:
        """Show that this host lives, and go on handing out addresses for as long as nobody can reclaim them.

        What was reclaimed is seen again only after another registration, which has ended that settlement.
        """
        began, now = self._time.monotonic(), self._time.clock()
        self._registry.seen(agent_ip)
        if self._joining.settlement is not settlement:
            return
        self._move_fence(now)
        if self._reclaim_after is not None:
            for gone in self._registry.reclaim():
                log.warning("reclaimed what an agent held that was not seen for too long", agent=str(gone))
        self._told = began

    def _move_fence(self, now: float) -> None:
        with self._store.read() as tx:
            known = fence.find(tx)
        if self._reclaim_after is None and known is None:
            return
        with self._store.write() as tx:
            if self._reclaim_after is None:
                fence.drop(tx)
            else:
                fence.put(tx, now, self._reclaim_after / 2)

    def _closed(self) -> list[str]:
        with self._store.read() as tx:
            ended = fence.since(tx, self._time.clock())
        return [] if ended is None else [str(fence.closed(ended))]

    def _used(self) -> set[str]:
        with self._store.read() as tx:
            return used_overlays(tx, self._time.clock())
