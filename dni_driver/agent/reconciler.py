# SPDX-License-Identifier: Apache-2.0
"""Keeps the kernel as the store wants it, and learns what only the kernel can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from dni_driver.agent.ports import Kernel
from dni_driver.agent.tally import Tally
from dni_driver.core.data_plane.paths import left_out, problems
from dni_driver.core.errors import KernelError
from dni_driver.core.mtu import misfits, outdated
from dni_driver.core.records import Records
from dni_driver.core.wanted import wanted
from dni_driver.store import Store, endpoints, networks
from dni_driver.store.records import read_all

log = structlog.get_logger(__name__)


class Reconciler:
    """Holds the kernel against the store."""

    def __init__(self, store: Store, kernel: Kernel) -> None:
        """Take both."""
        self._store = store
        self._kernel = kernel
        self.changes = Tally()

    def mend(self) -> list[str]:
        """Make the kernel agree with the store; answer in words what was changed, raise KernelError."""
        self._follow_underlay()
        return self._apply()

    def round(self) -> Sequence[str]:
        """Mend the kernel, then record the names that libnetwork gave to links inside their sandboxes."""
        problems = self._follow_underlay()
        try:
            self._apply()
        finally:
            self._learn_names(read_all(self._store))
        return problems

    def _apply(self) -> list[str]:
        changed = self._kernel.reconcile(lambda: wanted(read_all(self._store)))
        self.changes.add(len(changed))
        return changed

    def _follow_underlay(self) -> list[str]:
        """Record the MTUs that follow from the underlay's; answer in words what does not fit it."""
        records = read_all(self._store)
        if records.agent is None or not (records.networks or records.peers):
            return []
        try:
            underlay = self._kernel.underlay(records.agent)
        except KernelError as error:
            return [str(error)] if any(network.options.mtu is None for network in records.networks) else []
        self._record_mtus(outdated(records, underlay))
        found = [(f"network {network.label}", problem) for network, problem in misfits(records, underlay)]
        found += problems(records.overlays, records.peers, underlay)
        found += left_out(records.overlays, records.peers, underlay)
        return [f"{about}: {problem}" for about, problem in found]

    def _record_mtus(self, right: Mapping[str, int]) -> None:
        if not right:
            return
        with self._store.write() as tx:
            for network, mtu in right.items():
                networks.set_mtu(tx, network, mtu)
                log.info("MTU follows the underlay", network=network[:12], mtu=mtu)

    def _learn_names(self, records: Records) -> None:
        nameless = [link for link in wanted(records).links if link.ifname is None]
        named = [(link, name) for link in nameless if (name := self._kernel.ifname_in_sandbox(link)) is not None]
        if not named:
            return
        with self._store.write() as tx:
            joined = {endpoint.id: endpoint.sandbox for endpoint in endpoints.every(tx)}
            for link, name in named:
                if joined.get(link.endpoint) == link.sandbox:
                    endpoints.set_ifname(tx, link.endpoint, name)
