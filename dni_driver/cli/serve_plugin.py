# SPDX-License-Identifier: Apache-2.0
"""`dni serve plugin`: the program that answers dockerd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from dni_driver.agent.loop import Loop, Pace
from dni_driver.agent.problems import Problems
from dni_driver.cli import lifeline, locks, systemd
from dni_driver.cli.listening import handed_over, listen
from dni_driver.cli.settings import Settings
from dni_driver.console.client import Console
from dni_driver.core.deadline import deadline, within
from dni_driver.core.errors import DniError
from dni_driver.core.overlays import Overlay
from dni_driver.core.wanted import wanted
from dni_driver.kernel import Kernel
from dni_driver.kernel.peers.neighbourhood import LeftToTheAgent
from dni_driver.plugin.app import HANDLER_SECONDS, create_app
from dni_driver.plugin.ipam_driver import IpamDriver
from dni_driver.plugin.network_driver import NetworkDriver
from dni_driver.plugin.pool_finder import AGENT_SECONDS
from dni_driver.plugin.serving import serve
from dni_driver.plugin.starts import most_at_once
from dni_driver.store import Store
from dni_driver.store.records import open_sound, read_here

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

log = structlog.get_logger(__name__)

PORTS = Pace(every=10.0)
"""How often the ports that are held are held against those that are recorded."""

STARTING_SECONDS = 5.0
"""How long a call waits for an agent that nobody sees yet: it starts beside the plugin, and later."""

_STOP_SECONDS = 2.0
"""How long the store stays open for what looks after them."""


def run(settings: Settings) -> None:
    """Answer dockerd until SIGTERM; raise Unavailable where a plugin runs already."""
    directory = settings.run.directory
    driver = settings.plugin.driver
    locks.take(directory / "plugin.lock", "`dni serve plugin`", locks.PREDECESSOR_SECONDS, driver)
    notify = systemd.only_notifier()
    serve(
        lambda: announced(plugin_app(settings), notify),
        None if handed_over() else listen(settings.plugin.socket),
        threads=settings.plugin.threads,
        scratch=directory,
        after_fork=lifeline.end_with,
    )


@contextmanager
def announced(app: AbstractContextManager[WSGIApplication], notify: systemd.Notify) -> Iterator[WSGIApplication]:
    """Open an app, and tell the service manager that calls are answered: also where each is told why it fails."""
    with ExitStack() as resources:
        try:
            opened = resources.enter_context(app)
        except DniError as error:
            notify(f"READY=1\nSTATUS=refuses every call: {' '.join(str(error).split())}")
            raise
        notify("READY=1\nSTATUS=answers dockerd")
        yield opened


@contextmanager
def plugin_app(settings: Settings) -> Iterator[WSGIApplication]:
    """Open what the plugin rests on, mend the kernel, and give the app; close it all in the end."""
    with ExitStack() as resources:
        store = open_sound(settings.store.directory / "dni.db", read_here)
        resources.callback(store.close)
        kernel = Kernel(settings.run.directory, peers=LeftToTheAgent)
        resources.callback(_close, kernel)
        mend(kernel, store)
        ipam = IpamDriver(store, kernel, _Agent(settings.api.socket), settings.overlay.name)
        network = NetworkDriver(store, kernel, at_once=most_at_once())
        keeper = Loop("published ports", PORTS, Problems())
        keeper.start(network.keep_ports)
        resources.callback(keeper.join, _STOP_SECONDS)
        resources.callback(keeper.stop)
        yield create_app(network, ipam, settings.plugin.driver)


def mend(kernel: Kernel, store: Store) -> None:
    """Make the kernel agree with the records; what cannot be mended must not keep dockerd waiting."""
    try:
        with deadline(HANDLER_SECONDS):
            changed = kernel.reconcile(lambda: wanted(read_here(store)))
    except DniError as error:
        log.error("kernel not mended", error=str(error))  # noqa: TRY400 - the text says it
    else:
        for change in changed:
            log.info("mended", change=change)


class _Agent:
    """The cluster, as the agent on this host answers for it; dockerd waits meanwhile."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def try_out(self, overlay: Overlay) -> None:
        body = {key: value for key, value in msgspec.to_builtins(overlay, enc_hook=str).items() if value is not None}
        self._console().post("/v1/overlays", {**body, "trial": True})

    def remove(self, overlay: str) -> None:
        self._console().delete(f"/v1/overlays/{overlay}")

    def _console(self) -> Console:
        return Console(self._socket, within(AGENT_SECONDS), within(STARTING_SECONDS))


def _close(kernel: Kernel) -> None:
    """Delete the links that wait for it; what takes too long is left to the next reconcile."""
    try:
        kernel.drain()
    except DniError as error:
        log.error("links left to delete", error=str(error))  # noqa: TRY400
    kernel.close()
