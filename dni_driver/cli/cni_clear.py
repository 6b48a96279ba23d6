# SPDX-License-Identifier: Apache-2.0
"""`dni cni clear`: takes away what the agent keeps for runtimes of CNI, where it is not there to do so itself."""

from __future__ import annotations

import os
from contextlib import closing

from dni_driver.cli import locks
from dni_driver.cli.settings import Settings
from dni_driver.core.errors import Refused
from dni_driver.core.wanted import wanted
from dni_driver.kernel import Kernel
from dni_driver.mesos import conf_files
from dni_driver.store import Store, cni
from dni_driver.store.records import read_all


def clear(settings: Settings) -> None:
    """Remove the files that are as dni wrote them, and from the kernel what Mesos halves without containers had.

    Raises Unavailable where the agent runs, which would make it all again, Refused naming what cannot be removed.
    """
    lock = locks.take(settings.run.directory / "agent.lock", "the dni agent", 0.0)
    try:
        path = settings.store.directory / "dni.db"
        if path.exists():
            _clear(Store(path), Kernel(settings.run.directory))
    finally:
        os.close(lock)


def _clear(store: Store, kernel: Kernel) -> None:
    with closing(store), closing(kernel):
        problems = conf_files.settle(store, {})
        with store.write() as tx:
            used = {endpoint.overlay for endpoint in cni.endpoints(tx)}
            unused = [network.overlay for network in cni.networks(tx) if network.overlay not in used]
            for overlay in unused:
                cni.remove_network(tx, overlay)
        if unused:
            kernel.reconcile(lambda: wanted(read_all(store)))
    if problems:
        raise Refused("; ".join(problems))
