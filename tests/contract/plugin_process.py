# SPDX-License-Identifier: Apache-2.0
"""The plugin as dockerd meets it, with a kernel and limits that a test chose; the agent is a few lines here.

    python -m tests.contract.plugin_process FOLDER fake|real PARENT_PID

FOLDER gets the socket `dni.sock` and the store `dni.db`; `limits` in it names constants and their values; as long
as `no-agent` is there, nobody leases subnets. `fuse` ends the process between two writes.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dni_driver.cli import lifeline, logs
from dni_driver.cli.listening import listen
from dni_driver.cli.serve_plugin import mend
from dni_driver.cli.settings import LogSettings, PluginSettings
from dni_driver.core.overlays import FAMILIES, AgentSubnet, Overlay, lowest_free
from dni_driver.kernel import Kernel
from dni_driver.kernel.peers.neighbourhood import LeftToTheAgent
from dni_driver.plugin.app import create_app
from dni_driver.plugin.ipam_driver import IpamDriver
from dni_driver.plugin.network_driver import NetworkDriver
from dni_driver.plugin.serving import serve
from dni_driver.store import Store, overlays, pools
from tests.contract.fake_kernel import FolderKernel
from tests.contract.fuse import Fuse

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


def main(folder: Path, kernel: str, parent: int) -> None:
    """Answer calls until SIGTERM, or until whoever started this is gone."""
    lifeline.end_with(parent)
    logs.configure(LogSettings(level="info"), "plugin")
    _limit(folder / "limits")
    serve(
        lambda: _opened(folder, kernel),
        listen(folder / "dni.sock"),
        threads=PluginSettings().threads,
        scratch=folder,
        after_fork=lifeline.end_with,
    )


def _limit(told: Path) -> None:
    for line in told.read_text().splitlines() if told.exists() else ():
        name, value = line.split()
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(module), constant, float(value))


@contextmanager
def _opened(folder: Path, chosen: str) -> Iterator[WSGIApplication]:
    fuse = Fuse(folder)
    if chosen == "real":
        fuse.lay()
    store = Store(folder / "dni.db", fuse.after_commit)
    kernel: Kernel | FolderKernel = FolderKernel(folder)
    if chosen == "real":
        kernel = Kernel(folder / "run", peers=LeftToTheAgent)
        mend(kernel, store)
    sleep = partial(_sleep, folder)
    ipam = IpamDriver(store, kernel, _Agent(store, folder), "dcos", sleep=sleep)
    try:
        yield create_app(NetworkDriver(store, kernel, sleep=sleep), ipam)
    finally:
        if isinstance(kernel, Kernel):
            kernel.close()
        store.close()


def _sleep(folder: Path, seconds: float) -> None:
    """Wait for the agent; not where a test says that none will come."""
    time.sleep(0 if (folder / "no-waiting").exists() else seconds)


class _Agent:
    """Does as the agent does: records an overlay, and leases this host's part of it."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder

    def try_out(self, overlay: Overlay) -> None:
        if (self._folder / "no-agent").exists():
            return
        time.sleep(0.01)
        with self._store.write() as tx:
            overlays.put(tx, overlay)
            if not pools.on_trial(tx, overlay.name):
                pools.try_out(tx, overlay, time.time())
            for family in FAMILIES:
                if overlay.space(family):
                    subnet = lowest_free(overlay, family, [])
                    overlays.add_agent_subnet(tx, AgentSubnet(overlay=overlay.name, subnet=subnet))

    def remove(self, overlay: str) -> None:
        with self._store.write() as tx:
            overlays.remove(tx, overlay)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
