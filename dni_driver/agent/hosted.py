# SPDX-License-Identifier: Apache-2.0
"""On a host of DC/OS: leave to it what it does itself, and say what it has not done."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from dni_driver.core.hosting import Hosting
from dni_driver.registry.interface import Registry
from dni_driver.registry.mesos import MesosRegistry
from dni_driver.store import Store, hosting

log = structlog.get_logger(__name__)


class Hosted:
    """Keeps the store in agreement with what Mesos does here."""

    def __init__(self, store: Store, registry: Registry, changed: Callable[[], None] = lambda: None) -> None:
        """Take both; a registry that is not Mesos' does nothing for this host.

        `changed` is called when something else is done for it than before: more or less here counts as in use then.
        """
        self._store = store
        self._registry = registry
        self._changed = changed

    def look(self) -> Sequence[str]:
        """Record what Mesos does; answer in words what it has not done."""
        if not isinstance(self._registry, MesosRegistry):
            self._record(Hosting())
            return ()
        part = self._registry.part()
        self._record(part.hosting)
        return part.remarks

    def check_removal(self, overlay: str) -> None:
        """Raise Refused, or NotFound, before anything of an overlay of Mesos is removed."""
        if isinstance(self._registry, MesosRegistry):
            self._registry.begin_removal(overlay, self._registry.part().agent_ip)

    def _record(self, now: Hosting) -> None:
        with self._store.read() as tx:
            before = hosting.get(tx)
        if now != before:
            with self._store.write() as tx:
                hosting.put(tx, now)
            self._changed()
            log.info("hosted", by="Mesos" if now.carries else None, masqueraded=sorted(now.masqueraded))
