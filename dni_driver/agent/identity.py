# SPDX-License-Identifier: Apache-2.0
"""Who this host is in the cluster."""

from __future__ import annotations

import threading
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

    It changes in `renew` alone, which goes before a registration: all that follows is done under one address.
    A host that is found to have none but its loopback, or none of the family of the one it was known by, keeps
    that: networks come up one family after the other, and a cluster has one.
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
        self._finding = threading.Lock()
        self._found: Address | None = None
        self._has_moved = False

    def agent_ip(self) -> Address:
        """Answer the agent IP."""
        if self._configured is not None:
            return self._configured
        with self._finding:
            if self._found is None:
                self._found = self._best(self._find())
            return self._found

    def moves(self) -> bool:
        """Tell whether this host has another address by now; if so, the next `renew` has it be known by that."""
        self._has_moved = self._configured is None and self._best(self._find()) != self.agent_ip()
        return self._has_moved

    def renew(self) -> None:
        """Find the agent IP anew, where it has changed or is not known for good; the caller holds Joining's turn."""
        if self._configured is not None:
            return
        with self._finding:
            known = self._found
            if self._has_moved or known is None or known.is_loopback or self.recorded() is None:
                self._found = self._best(self._find())
                self._has_moved = False

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
