# SPDX-License-Identifier: Apache-2.0
"""Plugin and agent that have lived through a thousand containers are as small as they were.

Beside a real dockerd: tests/e2e/test_survival.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dni_driver.core.names import HOST_LINK_PREFIX
from tests.contract.engine import Engine
from tests.contract.objects import Network
from tests.contract.plugin import eventually, underlay
from tests.contract.test_serving_up import Host
from tests.lab import procfs
from tests.root.ground import Namespace
from tests.unit.docker_api import DockerApi, attached
from tests.unit.docker_api import network as docker_network

pytestmark = pytest.mark.root

CONTAINERS = 1000
ON_A_NETWORK = 25
WARMING_UP = 100
"""Containers after which caches are full, every thread has its connection, and memory its final shape."""

AT_WORK = 2
"""Files that a call or a deletion may have open at the moment of looking, and threads it may have at work."""
SLACK_KIB = 8192
KEPT = 25
"""Connections to dockerd that docker-py keeps, one for each of the last URLs: the agent has some after a while."""


Tell = Callable[[str, str], None]
"""What is told of each change: what happened, and to which network."""


def live(engine: Engine, containers: int, tell: Tell = lambda *_: None) -> None:
    """Create networks, run containers on them one after the other, and take all away."""
    for _ in range(containers // ON_A_NETWORK):
        network = engine.create("dcos").id
        tell("create", network)
        for number in range(ON_A_NETWORK):
            engine.run(f"c{number}", "dcos")
            tell("connect", network)
            engine.delete(f"c{number}")
            tell("disconnect", network)
        engine.remove("dcos")
        tell("destroy", network)
    assert engine.logged == []


def stays_flat(pid: int, before: procfs.Size, more_files: int = 0) -> None:
    """Wait until a program holds what it held: it may have more at hand than usual for a moment."""

    def is_flat() -> bool:
        now = procfs.size(pid)
        files, threads = before.files + AT_WORK + more_files, before.threads + AT_WORK
        return now.files <= files and now.threads <= threads and now.memory <= before.memory + SLACK_KIB

    eventually(is_flat, f"it has grown from {before}", lambda: str(procfs.size(pid)))


class Docker:
    """Docker's API as an agent reads it, of an engine whose networks and containers come and go."""

    def __init__(self, api: DockerApi, engine: Engine) -> None:
        """Show what the engine has, from now on."""
        self._api, self._engine = api, engine

    def tell(self, action: str, network: str) -> None:
        """Show things as they are now, and tell of what has happened."""
        self._api.networks = [self._shown(one) for one in self._engine.networks.values()]
        self._api.events.append({"Type": "network", "Action": action, "Actor": {"ID": network}})

    def _shown(self, network: Network) -> dict[str, Any]:
        config = [{"Subnet": str(pool.subnet), "Gateway": pool.gateway} for pool in network.pools]
        containers = {
            container.name: attached(one.id, container.name, str(one.addresses[4]))
            for container in self._engine.containers.values()
            for one in container.endpoints.values()
            if one.network is network
        }
        shown = docker_network(network.name, network.id, "dni", "dni", *config)
        return {**shown, "Containers": containers}


def test_a_thousand_containers_leave_plugin_and_agent_as_they_were(tmp_path: Path) -> None:
    """The whole of `dni up`, beside an engine that tells the agent of each container that comes and goes."""
    with Namespace() as namespace, DockerApi(tmp_path / "docker.sock") as api:
        underlay(namespace)
        host = Host(namespace, tmp_path)
        try:
            host.up()
            _live_beside(namespace, host, api)
        finally:
            host.kill_all()


def _live_beside(namespace: Namespace, host: Host, api: DockerApi) -> None:
    engine = Engine(host.dockerd, 28)
    docker = Docker(api, engine)
    (worker,), (agent,) = host.pids("worker"), host.pids("agent")
    live(engine, WARMING_UP, docker.tell)
    before, looked = (procfs.size(worker), procfs.size(agent)), len(api.asked)
    live(engine, CONTAINERS, docker.tell)
    eventually(lambda: not _held(host), "addresses are held", lambda: str(_held(host)))
    eventually(lambda: not _links(namespace), "links are left", lambda: _links(namespace))
    assert (host.pids("worker"), host.pids("agent")) == ([worker], [agent])
    stays_flat(worker, before[0])
    stays_flat(agent, before[1], KEPT)
    assert len(api.asked) > looked + 10, "the agent has not looked"


def _links(namespace: Namespace) -> str:
    links = namespace.sh("ip -o link show type veth").splitlines()
    return "\n".join(link for link in links if f": {HOST_LINK_PREFIX}" in link)


def _held(host: Host) -> list[str]:
    return [row["address"] for row in host.shown("address", "ls") if row["state"] != "free"]
