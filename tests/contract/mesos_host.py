# SPDX-License-Identifier: Apache-2.0
"""A host of DC/OS: an agent of Mesos that answers over HTTP, the registry that asks it, and a store."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.core.overlays import Address, AgentSubnet, define
from dni_driver.registry import Registry, open_registry
from dni_driver.registry.mesos import MesosRegistry
from dni_driver.store import Store, overlays
from tests.fakes import AGENT, FakeClock
from tests.mesos_agent import FakeMesosAgent, agent, overlay, overlay6, serving
from tests.scratch import fast_directory

OTHER = IPv4Address("192.0.2.20")
DCOS = define("dcos", [ip_network("9.0.0.0/8")])
DCOS6 = define("dcos6", [ip_network("fd01:b::/64")])


def held(subnet: str, name: str = "dcos") -> AgentSubnet:
    return AgentSubnet(overlay=name, subnet=ip_network(subnet))


@pytest.fixture
def mesos() -> Iterator[FakeMesosAgent]:
    with serving() as answering:
        answering.answer = agent(overlay(), overlay6())
        yield answering


@pytest.fixture
def registry(mesos: FakeMesosAgent) -> MesosRegistry:
    registry = open_registry(mesos.url, Path("/nonexistent"))
    assert isinstance(registry, MesosRegistry)
    return registry


@pytest.fixture
def store() -> Iterator[Store]:
    with fast_directory() as directory:
        store = Store(Path(directory) / "dni.db")
        yield store
        store.close()


def joining(store: Store, registry: Registry, found: Address = AGENT) -> Joining:
    return Joining(store, registry, Identity(store, lambda: found, None), None, FakeClock())


def subnets(store: Store) -> list[str]:
    with store.read() as tx:
        return [str(one.subnet) for one in overlays.agent_subnets(tx)]
