# SPDX-License-Identifier: Apache-2.0
"""An agent with all it meets, and how tests wait for what it does by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from dni_driver.agent import loops
from dni_driver.agent.agent import Agent
from dni_driver.agent.options import Options
from dni_driver.core.overlays import define
from dni_driver.core.records import AddressState
from dni_driver.core.wanted import wanted
from dni_driver.registry import open_registry
from dni_driver.store import Store
from dni_driver.store.records import read_all
from tests.fakes import DCOS, FakeClock
from tests.scratch import fast_directory
from tests.unit.agents import DB, WEB, AgentsKernel, FakeDocker, create_endpoint, create_network, frozen, shown

DEV = define("dev", [ip_network("10.64.0.0/16"), ip_network("fd01:d::/64")])
PATIENCE = 60.0


class World:
    """An agent with all it meets."""

    def __init__(self, directory: Path) -> None:
        """Make it as on a new host."""
        self.clock = FakeClock()
        self.kernel = AgentsKernel()
        self.docker = FakeDocker()
        self.store = Store(directory / "dni.db")
        self.agent = Agent(
            store=self.store,
            kernel=self.kernel,
            registry=open_registry("local", directory),
            docker=self.docker,
            options=Options(default_overlay=DCOS),
            time=frozen(self.clock),
        )

    def run_containers(self) -> None:
        """Have two containers on dcos, everywhere."""
        create_network(self.store, self.clock.now)
        create_endpoint(self.store, WEB, "9.0.0.130", self.clock.now)
        create_endpoint(self.store, DB, "9.0.0.131", self.clock.now)
        self.docker.networks = (shown((WEB, "web", "9.0.0.130"), (DB, "db", "9.0.0.131")),)
        self.kernel_as_wanted()
        self.clock.pass_by(3600)

    def kernel_as_wanted(self) -> None:
        """Have the links that the plugin makes."""
        self.agent.repair()
        for link in wanted(read_all(self.store)).links:
            self.kernel.attach(link)

    def held(self) -> list[str]:
        """Answer the addresses that are not free."""
        records = read_all(self.store)
        return [str(record.address) for record in records.addresses if record.state is not AddressState.FREE]


@pytest.fixture
def new() -> Iterator[World]:
    with fast_directory() as directory:
        world = World(Path(directory))
        yield world
        world.store.close()


@pytest.fixture
def world(new: World) -> World:
    """Answer a host that has joined."""
    new.agent.define_overlay(DCOS)
    return new


def eventually(holds: Callable[[], bool]) -> bool:
    ends = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < ends:
        time.sleep(0.005)
    return holds()


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel looked at only when there is a reason, and not every five seconds as well."""
    monkeypatch.setattr(loops, "KERNEL", msgspec.structs.replace(loops.KERNEL, every=3600.0))


@pytest.fixture
def running(new: World) -> Iterator[World]:
    new.agent.start()
    yield new
    new.agent.stop()
