# SPDX-License-Identifier: Apache-2.0
"""Tells the cluster how full this host is, when that changes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from dni_driver.agent.fullness import Fullness
from dni_driver.agent.joining import Joining
from dni_driver.agent.ports import Time
from dni_driver.core.addresses.telling import Pacing
from dni_driver.core.errors import NotFound
from dni_driver.registry import Registry
from dni_driver.store import Store, overlays, peers


class Telling:
    """Looks again and again; most looks ask the store whether anything was written, and no more."""

    def __init__(self, store: Store, registry: Registry, joining: Joining, fullness: Fullness, time: Time) -> None:
        """Have told nothing yet."""
        self._store = store
        self._registry = registry
        self._joining = joining
        self._fullness = fullness
        self._time = time
        self._pacing = Pacing()

    def look(self) -> Sequence[str]:
        """Tell what is due; raise Unavailable or StoreError where nobody can be told, and it is due again."""
        version, now = self._store.version(), self._time.monotonic()
        if not self._joining.is_registered or not self._pacing.is_due(version, now):
            return ()
        with self._store.read() as tx:
            agent_ip, number = overlays.agent_ip(tx), peers.number(tx)
        if agent_ip is not None:
            counts = self._fullness.counts()
            # One that was forgotten is registered anew first: that is Joining's.
            with suppress(NotFound):
                self._registry.tell(agent_ip, counts)
                self._pacing.told(version, counts, now, number)
        return ()
