# SPDX-License-Identifier: Apache-2.0
"""Hosts around one ZooKeeper, each with a disk on which an agent may run, and how tests wait for what they hear."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from dni_driver.agent.agent import Agent
from dni_driver.agent.options import Options
from dni_driver.core.errors import Unavailable
from dni_driver.core.mtu import Underlay
from dni_driver.core.overlays import Address, define
from dni_driver.core.records import Records
from dni_driver.core.wanted import Wanted
from dni_driver.registry import open_registry
from dni_driver.registry.zookeeper import ZooKeeperRegistry
from dni_driver.store import Store, fence
from dni_driver.store.records import read_all
from tests.fakes import DCOS, UNDERLAY_MTU
from tests.scratch import fast_directory
from tests.unit.agents import AgentsKernel, FakeDocker

DEV = define("dev", [ip_network("10.64.0.0/16")])
FIRST = IPv4Address("192.0.2.11")
PATIENCE = 60.0


class _Kernel(AgentsKernel):
    """A kernel on a host of any address."""

    def __init__(self) -> None:
        """Know nobody."""
        super().__init__()
        self.peers: list[str] = []

    def underlay(self, _: Address) -> Underlay:
        """Answer the one link there is."""
        return Underlay(link="eth0", mtu=UNDERLAY_MTU)

    def reconcile(self, read_wanted: Callable[[], object]) -> list[str]:
        """Note the agent IPs of the peers that it is to know."""

        def noting() -> Wanted:
            wanted: Wanted = read_wanted()  # type: ignore[assignment]
            self.peers = [str(peer.agent_ip) for peer in wanted.peers]
            return wanted

        return super().reconcile(noting)


class Host:
    """A host with a disk, on which an agent may run."""

    def __init__(self, url: str, disk: Path, number: int) -> None:
        """Run nothing yet; `number` counts hosts from 0."""
        self.disk = disk
        self.url = url
        self.ip = FIRST + number
        self.kernel = _Kernel()
        self.docker = FakeDocker()
        self.agent: Agent | None = None
        self.registry: ZooKeeperRegistry | None = None
        self._store: Store | None = None

    def start(self, reclaim_after: float | None = None) -> Host:
        """Start an agent."""
        registry = open_registry(self.url, self.disk)
        assert isinstance(registry, ZooKeeperRegistry)
        self.registry = registry
        self._store = Store(self.disk / "dni.db")
        self.docker = FakeDocker()
        self.agent = Agent(
            store=self._store,
            kernel=self.kernel,
            registry=registry,
            docker=self.docker,
            options=Options(default_overlay=DCOS, registry=self.url, agent_ip=self.ip, reclaim_after=reclaim_after),
        )
        self.agent.start()
        return self

    def stop(self) -> None:
        """Stop it; nothing where none runs."""
        if self.agent is not None and self._store is not None:
            self.agent.stop()
            self._store.close()
        self.agent = None

    def __call__(self) -> Agent:
        """Answer the agent that runs."""
        assert self.agent is not None
        return self.agent

    def cut_off(self) -> None:
        """Have the agent run on without a registry."""
        assert self.registry is not None
        self.registry.link.client.stop()

    def leased(self) -> list[str]:
        """Answer what agents hold, as the registry has it."""
        assert self.registry is not None
        return [f"{lease.held.overlay} {lease.held.subnet}" for lease in self.registry.leases()]

    def hands_out(self) -> bool:
        """Tell whether the plugin of this host would hand out an address now; its agent may have ended."""
        store = Store(self.disk / "dni.db")
        try:
            with store.read() as tx:
                fence.check(tx, "dcos", time.time())
        except Unavailable:
            return False
        finally:
            store.close()
        return True

    @property
    def store(self) -> Store:
        """Answer the store of the agent that runs."""
        assert self._store is not None
        return self._store

    def records(self) -> Records:
        """Answer all that the store has."""
        return read_all(self.store)

    def knows(self) -> list[str]:
        """Answer the agent IPs of the peers in the store."""
        return [str(peer.agent_ip) for peer in self.records().peers]

    def holds(self) -> list[str]:
        """Answer the agent subnets in the store."""
        return [f"{held.overlay} {held.subnet}" for held in self.records().agent_subnets]


Make = Callable[[int], Host]


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    if getattr(request, "param", "shared") == "own":
        return f"zookeeper://{request.getfixturevalue('own_server').address}/dni"
    return str(request.getfixturevalue("zookeeper_url"))


@pytest.fixture
def make(url: str) -> Iterator[Make]:
    made: list[Host] = []
    with fast_directory() as directory:

        def make(number: int) -> Host:
            disk = Path(directory) / f"disk{len(made)}"
            disk.mkdir()
            made.append(Host(url, disk, number))
            return made[-1]

        yield make
        for host in made:
            host.stop()


def eventually(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it does not come to be"
        time.sleep(0.02)


def alive(host: Host) -> dict[str, bool | None]:
    return {report.agent: report.alive for report in host().agents()}


def join(make: Make, number: int) -> list[Host]:
    """Answer so many hosts that know each other."""
    hosts = [make(one).start() for one in range(number)]
    every = {str(host.ip) for host in hosts}
    for host in hosts:
        eventually(lambda host=host: {*host.knows(), str(host.records().agent)} == every)  # type: ignore[misc]
    return hosts
