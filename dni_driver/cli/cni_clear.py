# SPDX-License-Identifier: Apache-2.0
"""`dni cni clear`: takes away what the agent keeps for others, where it is not there to do so itself.

That is what runtimes of CNI find on this host, and what the kernel knows of other hosts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from dni_driver.cli import locks
from dni_driver.cli.settings import Settings
from dni_driver.core.errors import Refused, Unavailable
from dni_driver.core.records import Records
from dni_driver.core.wanted import Wanted, wanted
from dni_driver.kernel import Kernel
from dni_driver.mesos import conf_files
from dni_driver.mesos.host_local import DATA_DIRECTORIES, occupied
from dni_driver.store import Store, cni
from dni_driver.store.records import read_all

_RUNTIMES = "containers of CNI's host-local"


def clear(settings: Settings) -> str | None:
    """Remove the files that are as dni wrote them, and from the kernel what no container of this host needs.

    Those are the bridges of Mesos halves, and where no bridge is left the ways to other hosts; answer in words why
    these stay, where they do. Raises Unavailable where the agent runs, which would make it all again, Refused naming
    what cannot be removed.
    """
    lock = locks.take(settings.run.directory / "agent.lock", "the dni agent", 0.0)
    try:
        path = settings.store.directory / "dni.db"
        return _clear(Store(path), Kernel(settings.run.directory)) if path.exists() else None
    finally:
        os.close(lock)


def _clear(store: Store, kernel: Kernel) -> str | None:
    with closing(store), closing(kernel):
        problems = conf_files.settle(store, {})
        unused = _forget_unused(store)
        before = wanted(read_all(store))
        users = list(_users(read_all(store), DATA_DIRECTORIES))
        is_apart = before.vtep is not None and not users
        if unused or is_apart:
            kernel.reconcile(lambda: _alone(store) if is_apart else wanted(read_all(store)))
    if problems:
        raise Refused("; ".join(problems))
    return f"the ways to other hosts, for {', '.join(users)}" if before.vtep is not None and users else None


def _alone(store: Store) -> Wanted:
    return msgspec.structs.replace(wanted(read_all(store)), vtep=None, peers=[])


def _forget_unused(store: Store) -> list[str]:
    """Forget the Mesos halves that have no container of dni-cni; answer their overlays."""
    with store.write() as tx:
        used = {endpoint.overlay for endpoint in cni.endpoints(tx)}
        unused = [network.overlay for network in cni.networks(tx) if network.overlay not in used]
        for overlay in unused:
            cni.remove_network(tx, overlay)
    return unused


def _users(records: Records, directories: tuple[Path, ...]) -> Iterator[str]:
    """Answer in words what is left on this host that may send to others."""
    yield from (f"Docker network {network.label}" for network in records.networks)
    yield from (f"containers of CNI on {network.overlay}" for network in records.cni_networks)
    for overlay in records.overlays:
        try:
            held = occupied(overlay.name, directories)
        except Unavailable as error:
            yield f"{_RUNTIMES}, if there are any: {error}"
            continue
        if held:
            yield f"{_RUNTIMES} on {overlay.name}"
