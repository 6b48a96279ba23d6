# SPDX-License-Identifier: Apache-2.0
"""`dni serve agent`: the program that works in the background and answers people."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

from dni_driver.agent.agent import Agent
from dni_driver.agent.cni import CniOptions
from dni_driver.agent.docker import DockerDaemon
from dni_driver.agent.options import Options
from dni_driver.cli import locks, systemd
from dni_driver.cli.settings import ApiSettings, RegistrySettings, Settings
from dni_driver.kernel import Kernel
from dni_driver.registry import Access, open_registry
from dni_driver.store.records import open_sound, read_all

if TYPE_CHECKING:
    from types import FrameType

    from dni_driver.console.server import Server

_STUCK_SECONDS = 9
"""After SIGTERM, until the kernel ends what does not end by itself; `dni up` waits 10 s."""


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; raise Unavailable where an agent runs already, StoreError, SettingsError."""
    lock, driver = settings.run.directory / "agent.lock", settings.plugin.driver
    locks.take(lock, "`dni serve agent`", locks.PREDECESSOR_SECONDS, driver)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    with ExitStack() as resources:
        agent = _open(settings, resources)
        resources.callback(agent.stop)
        agent.start()
        server = _console(settings, agent)
        systemd.notify("READY=1")
        server.run()


def _console(settings: Settings, agent: Agent) -> Server:
    """Open the operator API. Other hosts need not wait for what it imports: that is a third of all there is."""
    from dni_driver.console.app import create_app, create_reading_app  # noqa: PLC0415 - as the line above says
    from dni_driver.console.server import Server  # noqa: PLC0415 - as above

    server = Server(create_app(agent, settings.plugin.driver, agent.cni), settings.api.socket)
    if settings.api.listen is not None:
        server.listen_too(create_reading_app(agent, settings.plugin.driver), settings.api.listen)
    return server


def _open(settings: Settings, resources: ExitStack) -> Agent:
    """Open what the agent rests on; `resources` closes it, last opened first."""
    directory = settings.store.directory
    store = open_sound(directory / "dni.db", read_all)
    resources.callback(store.close)
    registry = open_registry(settings.registry.url, directory, access(settings.registry))
    resources.callback(registry.close)
    kernel = Kernel(settings.run.directory)
    resources.callback(kernel.close)
    return Agent(
        store=store,
        kernel=kernel,
        registry=registry,
        docker=DockerDaemon(settings.docker.socket),
        options=Options(
            default_overlay=settings.registry.default_overlay(settings.overlay.overlay()),
            registry=settings.registry.url,
            agent_ip=settings.agent.ip,
            driver=settings.plugin.driver,
            create_networks=settings.docker.create_networks,
            claim_grace=settings.collector.claim_grace,
            grace=settings.collector.grace,
            reclaim_after=settings.registry.reclaim_after,
            cni=_cni(settings),
            vtep_subnet=settings.overlay.vtep_subnet,
        ),
    )


def access(registry: RegistrySettings) -> Access:
    """Answer how dni makes itself known to ZooKeeper, or to a Mesos agent."""
    return Access(
        token_file=registry.token_file,
        user=registry.user,
        password=registry.password,
        tls=registry.tls,
        ca=registry.ca,
        certificate=registry.certificate,
        key=registry.key,
    )


def _cni(settings: Settings) -> CniOptions:
    socket = settings.api.socket
    return CniOptions(
        directory=settings.cni.directory,
        ipam=settings.cni.ipam,
        socket=None if socket == ApiSettings().socket else str(socket),
        grace=settings.collector.grace,
    )


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    """Leave what the main thread does; a thread that hangs may not keep the process for ever."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.alarm(_STUCK_SECONDS)
    raise SystemExit(0)
