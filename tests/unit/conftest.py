# SPDX-License-Identifier: Apache-2.0
"""A store with two overlays leased, on a file of its own for each test, and one ZooKeeper with a place for each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from dni_driver.store import Store
from tests.fakes import DCOS, DUAL, lease
from tests.lab.zookeeper import ZooKeeper, running
from tests.scratch import fast_directory
from tests.unit.registries import Open, opening

_PLACES = count(1)


@pytest.fixture
def path() -> Iterator[Path]:
    """Answer where a store may be made."""
    with fast_directory() as directory:
        yield Path(directory) / "dni.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Answer a store that holds 9.0.0.0/24 of `dcos`, 10.64.0.0/24 and fd01:b::/80 of `dual`."""
    store = Store(path)
    lease(store, DCOS, "9.0.0.0/24")
    lease(store, DUAL, "10.64.0.0/24", "fd01:b::/80")
    yield store
    store.close()


@pytest.fixture(scope="session")
def zookeeper() -> Iterator[ZooKeeper]:
    """One ZooKeeper for the whole run."""
    with fast_directory() as directory, running(Path(directory) / "zookeeper") as server:
        yield server


@pytest.fixture
def zookeeper_url(zookeeper: ZooKeeper) -> str:
    """Answer where a registry may be made that no other test knows."""
    return f"zookeeper://{zookeeper.address}/dni-{next(_PLACES)}"


@pytest.fixture
def connect(zookeeper_url: str) -> Iterator[Open]:
    with opening(zookeeper_url) as one_more:
        yield one_more


@pytest.fixture
def raw(zookeeper: ZooKeeper) -> Iterator[KazooClient]:
    """ZooKeeper itself."""
    client = KazooClient(zookeeper.address)
    client.start()
    yield client
    client.stop()
    client.close()


@pytest.fixture
def own_server() -> Iterator[ZooKeeper]:
    """A server that a test may stop."""
    with fast_directory() as directory, running(Path(directory) / "own") as server:
        yield server
