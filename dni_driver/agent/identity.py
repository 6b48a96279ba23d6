# SPDX-License-Identifier: Apache-2.0
"""Who this host is in the cluster."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path

import structlog

from dni_driver.core.overlays import Address
from dni_driver.registry import Host
from dni_driver.store import Store, identity, overlays, peers

log = structlog.get_logger(__name__)

_BOOT = Path("/proc/sys/kernel/random/boot_id")
"""The same for every process until the host is started again."""


class Identity:
    """Under which address this host is an agent: the configured one, or the one it is best known by.

    Found once, until somebody has it found anew. A host that is found to have none but its loopback, or none of the
    family of the one it was known by, keeps that: networks come up one family after the other, and a cluster has one.
    Before it is known by any it is looked at each time it registers.
    """

    def __init__(
        self,
        store: Store,
        find: Callable[[], Address],
        configured: Address | None,
        reclaim_after: float | None = None,
        vtep_subnet: IPv4Network | None = None,
    ) -> None:
        """Take how to find the address; `configured` is used as it stands.

        `reclaim_after`: so many seconds unseen, this host may lose what it holds; None for never. `vtep_subnet`:
        where all VTEPs are to come from; None for where they do.
        """
        self._store = store
        self._find = find
        self._configured = configured
        self._reclaim_after = reclaim_after
        self._vtep_subnet = vtep_subnet
        self._found: Address | None = None

    def agent_ip(self) -> Address:
        """Answer the agent IP."""
        if self._configured is not None:
            return self._configured
        if self._found is None or self._found.is_loopback:
            self._found = self._best(self._find())
        return self._found

    def find_anew(self) -> Address:
        """Find and answer the agent IP, which may have changed; a configured one has not."""
        self._found = None
        return self.agent_ip()

    def _best(self, found: Address) -> Address:
        known = self.recorded()
        if known is None or known.is_loopback:
            return found
        return known if found.is_loopback or found.version != known.version else found

    def recorded(self) -> Address | None:
        """Answer the agent IP that the store has: another one than now after it changed."""
        with self._store.read() as tx:
            return overlays.agent_ip(tx)

    def record(self) -> None:
        """Have the store know the agent IP."""
        known = self.agent_ip()
        if self.recorded() != known:
            with self._store.write() as tx:
                overlays.set_agent_ip(tx, known)
            log.info("this host is an agent", agent=str(known))

    def host(self) -> Host:
        """Answer this host as the registry is to know it."""
        if self.recorded() is None:
            self._found = None
        with self._store.read() as tx:
            vtep = peers.vtep(tx)
        return Host(
            agent_ip=self.agent_ip(),
            identity=identity.of_store(self._store),
            boot=_BOOT.read_text(encoding="ascii").strip(),
            formerly=self.recorded(),
            vtep=vtep,
            reclaim_after=self._reclaim_after,
            vtep_subnet=self._vtep_subnet,
        )
