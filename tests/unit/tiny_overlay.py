# SPDX-License-Identifier: Apache-2.0
"""A host on an overlay of four tiny agent subnets, which a few containers fill."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import NoReturn

import pytest

from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.agent.reconciler import Reconciler
from dni_driver.agent.room import IDLE_SECONDS, Leasing
from dni_driver.core.errors import StoreError
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import define
from dni_driver.core.records import NetworkRecord
from dni_driver.core.wanted import wanted
from dni_driver.registry.local import LocalRegistry
from dni_driver.store import Store, addresses, networks, pools
from dni_driver.store.claiming import Asked, claim, halves_of
from dni_driver.store.records import read_all
from tests.fakes import AGENT, FakeClock
from tests.members import joined
from tests.scratch import fast_directory
from tests.unit.agents import NETWORK, AgentsKernel, frozen

TINY = define("tiny", [ip_network("10.80.0.0/26")], (28, None))
"""Four agent subnets, whose Docker halves have room for five containers each: 10.80.0.10 to .14, .26 to .30 ..."""
OTHER = IPv4Address("192.0.2.20")


class Host:
    """An agent's store, registry and kernel; time passes as a test says. `store` is what the plugin has."""

    def __init__(self, directory: Path) -> None:
        """Take part in the overlay, and have its Docker network."""
        self.store = Store(directory / "dni.db")
        self._agents = Store(directory / "dni.db")
        self.registry = LocalRegistry(directory / "registry.db")
        self.kernel, self.clock = AgentsKernel(), FakeClock()
        self.joining = Joining(self._agents, self.registry, self.identity(), TINY, self.clock)
        self.joining.join()
        self.start()

    def close(self) -> None:
        """Let go of the files."""
        self.store.close()
        self._agents.close()

    def identity(self) -> Identity:
        """Answer who it is."""
        return Identity(self.store, lambda: AGENT, None)

    def start(self) -> None:
        """Begin to watch, as a new process does."""
        mend = Reconciler(self._agents, self.kernel).mend
        time = frozen(self.clock)
        self.room = Leasing(self._agents, self.registry, self.identity(), mend, self.joining.in_turn, time)

    def fill_the_disk(self, patched: pytest.MonkeyPatch) -> None:
        """Have the agent write nothing more into its store."""

        def write() -> NoReturn:
            raise StoreError("the disk is full")

        patched.setattr(self._agents, "write", write)

    def create_network(self, ip_range: str | None = None, gateway: str = "10.80.0.9/29") -> None:
        """Record the overlay's Docker network."""
        interface = ip_interface(gateway)
        assert interface.version == 4
        ranged = ip_network(ip_range) if ip_range else None
        with self.store.write() as tx:
            pools.use_overlay(tx, "tiny", 4, ranged, self.clock.now)
            network = NetworkRecord(
                id=NETWORK,
                overlay="tiny",
                options=NetworkOptions(),
                mtu=1450,
                gateway=interface,
                since=self.clock.now,
            )
            networks.add(tx, network)

    def take(self, asked: str | None = None) -> str:
        """Give a container an address, as the plugin does."""
        with self.store.write() as tx:
            pool = pools.find(tx, "tiny/v4")
            return str(
                claim(
                    tx,
                    pool,
                    halves_of(tx, pool),
                    Asked(address=ip_address(asked) if asked else None),
                    self.clock.now,
                )
            )

    def free(self, *texts: str) -> None:
        """Free addresses, as the plugin does."""
        with self.store.write() as tx:
            for text in texts:
                addresses.free(tx, "tiny/v4", ip_address(text), self.clock.now)

    def look_for(self, seconds: float) -> list[str]:
        """Look again and again until so much time has gone by; answer the last problems."""
        ends = self.clock.now + seconds
        while self.clock.now < ends:
            self.clock.pass_by(IDLE_SECONDS / 4)
            self.room.look()
        return self.room.look()

    def halves(self) -> list[str]:
        """Answer the Docker halves that addresses come from."""
        return [str(half) for half in read_all(self.store).halves("tiny")]

    def leased(self) -> list[str]:
        """Answer what the registry says that this agent holds."""
        return [str(one.held.subnet) for one in self.registry.leases(AGENT)]

    def lease_the_rest(self) -> None:
        """Have another agent hold all that is left."""
        for _ in range(3):
            joined(self.registry, OTHER).lease("tiny", 4, OTHER)

    def carried(self) -> list[str]:
        """Answer the addresses of the bridge."""
        self.kernel.reconcile(lambda: wanted(read_all(self.store)))
        return [str(address) for address in self.kernel.bridges["d-tiny"].addresses]


@pytest.fixture
def host() -> Iterator[Host]:
    with fast_directory() as directory:
        host = Host(Path(directory))
        yield host
        host.close()


def take_from_mesos_half(host: Host) -> None:
    """Give a container of CNI an address of the second agent subnet, and take it back."""
    with host.store.write() as tx:
        pool = pools.use_mesos(tx, "tiny", 4, host.clock.now)
        asked = Asked(address=ip_address("10.80.0.18"))
        addresses.free(tx, pool.id, claim(tx, pool, halves_of(tx, pool), asked, host.clock.now), host.clock.now)


@pytest.fixture
def busy(host: Host) -> Host:
    """Give a host with a network and two agent subnets, the second one empty."""
    host.create_network()
    for _ in range(4):
        host.take()
    host.room.look()
    assert host.halves() == ["10.80.0.8/29", "10.80.0.24/29"]
    host.free("10.80.0.11", "10.80.0.12", "10.80.0.13")
    return host
