# SPDX-License-Identifier: Apache-2.0
"""A host that joins, as it is before anything goes wrong: its disk, its registry, and what either has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from pathlib import Path

import pytest

from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.core.overlays import Address, Overlay, define
from dni_driver.registry import Registry, open_registry
from dni_driver.store import Store, overlays
from tests.fakes import AGENT, DCOS, FakeClock
from tests.scratch import fast_directory

OTHER = IPv4Address("192.0.2.20")
LOOPBACK = IPv4Address("127.0.0.1")
SIX = IPv6Address("fd00::11")
DEV = define("dev", [ip_network("10.64.0.0/16")])


@pytest.fixture
def directory() -> Iterator[Path]:
    with fast_directory() as directory:
        yield Path(directory)


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    store = Store(directory / "dni.db")
    yield store
    store.close()


@pytest.fixture
def registry(directory: Path) -> Registry:
    return open_registry("local", directory)


Start = Callable[..., Joining]


@pytest.fixture
def start(store: Store, registry: Registry) -> Start:
    """Answer how an agent starts, with the address it is found to have."""

    def start(
        found: Address = AGENT,
        default: Overlay = DCOS,
        configured: Address | None = None,
        clock: Callable[[], float] = FakeClock(),  # noqa: B008 - nobody lets it pass
        vtep_subnet: IPv4Network | None = None,
    ) -> Joining:
        identity = Identity(store, lambda: found, configured, vtep_subnet=vtep_subnet)
        return Joining(store, registry, identity, default, clock)

    return start


def held(store: Store) -> list[str]:
    with store.read() as tx:
        return [f"{one.overlay} {one.subnet}" for one in overlays.agent_subnets(tx)]


def known(store: Store) -> list[Overlay]:
    with store.read() as tx:
        return overlays.every(tx)


def agent_ip(store: Store) -> Address | None:
    with store.read() as tx:
        return overlays.agent_ip(tx)


def leases(registry: Registry) -> list[tuple[str, str]]:
    return [(str(lease.agent_ip), str(lease.held.subnet)) for lease in registry.leases()]
