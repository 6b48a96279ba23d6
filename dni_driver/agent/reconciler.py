# SPDX-License-Identifier: Apache-2.0
"""Keeps the kernel as the store wants it, and learns what only the kernel can tell."""

from __future__ import annotations

from collections.abc import Sequence

from dni_driver.agent.ports import Kernel
from dni_driver.core.records import Records
from dni_driver.core.wanted import wanted
from dni_driver.store import Store, endpoints
from dni_driver.store.records import read_all


class Reconciler:
    """Holds the kernel against the store."""

    def __init__(self, store: Store, kernel: Kernel) -> None:
        """Take both."""
        self._store = store
        self._kernel = kernel

    def mend(self) -> list[str]:
        """Make the kernel agree with the store; answer in words what was changed, raise KernelError."""
        return self._kernel.reconcile(lambda: wanted(read_all(self._store)))

    def round(self) -> Sequence[str]:
        """Mend the kernel, then record the names that libnetwork gave to links inside their sandboxes."""
        try:
            self.mend()
        finally:
            self._learn_names(read_all(self._store))
        return ()

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
