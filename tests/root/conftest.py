# SPDX-License-Identifier: Apache-2.0
"""Hosts, and what is around them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.root.cluster import SIX, Cluster
from tests.root.ground import Namespace, wire
from tests.root.packets import Server
from tests.root.town import Host


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Give a host with dni on it and nothing else."""
    with Host(tmp_path / "run") as host:
        yield host


@pytest.fixture
def outside(host: Host) -> Iterator[Namespace]:
    """Give a machine beside the host, 198.51.100.2 to its 198.51.100.1, that routes everything by the host."""
    with machine_beside(host) as outside:
        yield outside


@contextmanager
def machine_beside(host: Host) -> Iterator[Namespace]:
    """Make that machine."""
    with Namespace() as outside:
        wire(host, "eth0", outside, "eth0")
        host.sh("ip addr add 198.51.100.1/24 dev eth0", "ip addr add fd00:5::1/64 dev eth0 nodad")
        outside.sh("ip addr add 198.51.100.2/24 dev eth0", "ip addr add fd00:5::2/64 dev eth0 nodad")
        host.sh("ip route add default via 198.51.100.2", "ip route add default via fd00:5::2")
        outside.sh("ip route add default via 198.51.100.1", "ip route add default via fd00:5::1")
        with Server(outside):
            yield outside


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Give four hosts with dni on them, three on one link and one behind a router."""
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack)


@pytest.fixture
def cluster6(tmp_path: Path) -> Iterator[Cluster]:
    """Give the same, with nothing but IPv6 between them."""
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack, SIX)
