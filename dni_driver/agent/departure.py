# SPDX-License-Identifier: Apache-2.0
"""This host's part in the removal of an overlay (docs/decisions/0045).

The store is told first that nothing is begun any more, and in the same transaction it is seen that nothing has been;
then the registry, that this host holds nothing. Whatever dies in between, the next look goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import structlog

from dni_driver.agent.identity import Identity
from dni_driver.agent.occupancy import check_idle, check_vacant, forget_vacant, used_overlays
from dni_driver.core.errors import NotFound
from dni_driver.core.overlays import Address, AgentSubnet
from dni_driver.registry import Registry
from dni_driver.store import Store, leaving, overlays

log = structlog.get_logger(__name__)


class Departure:
    """Those who call it hold the turn of `Joining`: nobody takes part meanwhile in what is being left."""

    def __init__(self, store: Store, registry: Registry, identity: Identity, clock: Callable[[], float]) -> None:
        """Take both."""
        self._store = store
        self._registry = registry
        self._identity = identity
        self._clock = clock

    def begin(self, name: str) -> None:
        """Have an overlay leave in the whole cluster; raise NotFound, or InUse naming who uses it.

        A removal that is under way is gone on with. What this host uses it says before, so that it is true.
        """
        agent_ip = self._identity.agent_ip()
        with self._store.read() as tx:
            check_idle(tx, name, self._clock())
            used = used_overlays(tx, self._clock())
        self._registry.use(agent_ip, used)
        self._registry.begin_removal(name, agent_ip)

    def close(self, name: str, remover: Address) -> None:
        """Have nothing be begun with an overlay here; raise InUse where something has been."""
        with self._store.write() as tx:
            check_idle(tx, name, self._clock())
            leaving.mark(tx, name, remover)

    def give_up(self, name: str, remover: Address) -> None:
        """Give back what this host holds of an overlay; raise InUse where something uses it, or may begin to."""
        with self._store.write() as tx:
            check_vacant(tx, name, self._clock())
            leaving.mark(tx, name, remover)
        agent_ip = self._identity.agent_ip()
        for held in self._leased(name):
            self._registry.give_back(held, agent_ip)
        with self._store.write() as tx:
            overlays.vacate(tx, name)

    def end(self, name: str) -> bool:
        """Forget an overlay that is leaving where no agent holds any of it, here too; tell whether it is gone.

        Raises InUse, naming who uses it, where it is to stay.
        """
        if not self._registry.end_removal(name):
            return False
        with self._store.write() as tx:
            forget_vacant(tx, name, self._clock())
        return True

    def holds(self, name: str) -> bool:
        """Tell whether this host has anything to give up."""
        with self._store.read() as tx:
            if overlays.has_any_of(tx, name):
                return True
        return bool(self._leased(name))

    def object(self, name: str) -> None:
        """Have an overlay stay that this host uses."""
        with suppress(NotFound):
            self._registry.keep(name, self._identity.agent_ip())
        log.info("kept: this host uses the overlay that was to go", overlay=name)
        self.resume(name)

    def resume(self, name: str) -> None:
        """Have containers be started again on an overlay that stays, once the registry has all that is held here."""
        with self._store.read() as tx:
            mine = overlays.agent_subnets(tx, name)
        if set(mine).issubset(self._leased(name)):
            with self._store.write() as tx:
                leaving.clear(tx, name)

    def _leased(self, name: str) -> list[AgentSubnet]:
        leases = self._registry.leases(self._identity.agent_ip())
        return [lease.held for lease in leases if lease.held.overlay == name]
