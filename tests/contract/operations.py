# SPDX-License-Identifier: Apache-2.0
"""An agent's operations with canned answers, and the operator API that serves them."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dni_driver.console.app import create_app
from dni_driver.console.client import Console
from dni_driver.console.server import Server
from dni_driver.core.addresses.allocation import Usage
from dni_driver.core.addresses.filling import Load
from dni_driver.core.addresses.fullness import AgentUsage, Half, HalfUsage, OverlayUsage, Room, SubnetUsage
from dni_driver.core.addresses.reservations import Wish
from dni_driver.core.cluster import AgentReport, HeldReport
from dni_driver.core.figures import Cluster, Figures, Leases
from dni_driver.core.invariants.finding import Finding
from dni_driver.core.mesos import dcos
from dni_driver.core.overlays import Address, Backend, Overlay
from dni_driver.core.reports import (
    AddressReport,
    DockerReport,
    NetworkReport,
    OverlayReport,
    PortReport,
    Repair,
    ReservationReport,
    Status,
    UsageReport,
)
from tests.scratch import fast_directory

FINDING = Finding(about="d-dcos", problem="is missing", mend="dni repair")
DCOS = OverlayReport(
    name="dcos",
    subnet="9.0.0.0/8",
    prefix=24,
    subnet6="fd01:b::/48",
    prefix6=56,
    backend="vxlan",
    agent_subnets=["9.0.0.0/24"],
    docker_halves=["9.0.0.128/25"],
    mesos_halves=["9.0.0.0/25"],
    network=NetworkReport(id="d" * 64, name="dcos"),
    create=None,
    usage=UsageReport(
        v4=Usage(size=125, used=2, reserved=1, free=122), v6=Usage(size=2**71 - 2, used=0, reserved=0, free=2**71 - 2)
    ),
)
WEB = AddressReport(
    pool="dcos/v4",
    overlay="dcos",
    address="9.0.0.130",
    state="bound",
    endpoint="1" * 64,
    network="dcos",
    container="web",
    since=1700000000.5,
)
HALF = HalfUsage(half="9.0.0.128/25", size=125, used=2, reserved=1, free=122)
USAGE = OverlayUsage(
    overlay="dcos",
    agents=[
        AgentUsage(
            agent="192.0.2.1",
            here=True,
            subnets=[SubnetUsage(subnet="9.0.0.0/24", since=1700000000.5, mesos=HALF, docker=HALF)],
            as_of=1700000001.5,
        )
    ],
)
FIGURES = Figures(
    version="1.2.3",
    docker_reachable=True,
    loads=[Load(overlay="dcos", half="docker", family=4, size=125, used=2, reserved=1)],
    endpoints={"dcos": 2},
    cluster=Cluster(leases=[Leases(overlay="dcos", family=4, here=False, count=3)], alive=4, lost=1),
    problems=1,
    candidates=5,
    reclaimed=6,
    kernel_changes=7,
)
DCOS_AGENT = dcos.Agent(
    ip="192.0.2.1",
    configuration_attempts=1,
    overlays=[
        dcos.AgentOverlay(
            info=dcos.OverlayInfo(name="dcos", subnet="9.0.0.0/8", prefix=24, enabled=True),
            backend=dcos.Backend(
                vxlan=dcos.Vxlan(
                    vni=1024, vtep_ip="44.128.0.1/20", vtep_mac="70:b3:d5:80:00:01", vtep_name="vtep1024"
                )
            ),
            subnet="9.0.0.0/24",
            state=dcos.State(status="STATUS_OK"),
        )
    ],
)
KEPT = ReservationReport(
    overlay="dcos", first="9.0.0.140", last="9.0.0.140", size=1, container="web", since=1700000000.5
)

PORT = PortReport(
    protocol="tcp",
    host_ip="0.0.0.0",
    host_port=8080,
    container="web",
    container_ip="9.0.0.130",
    container_port=80,
    network="dcos",
    endpoint="1" * 64,
)


OTHER_AGENT = AgentReport(
    agent="192.0.2.2",
    vtep="44.128.0.2",
    subnets=[HeldReport(overlay="dcos", subnet="9.0.1.0/24")],
    alive=False,
    since=1700000000.0,
    here=False,
)


class _Operations:
    """Answers what it is given, notes what it was asked, and raises `error` where there is one."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked: list[Any] = []

    def _note(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error

    def status(self) -> Status:
        self._note("status")
        dockerd = DockerReport(reachable=False, error="dockerd does not answer")
        return Status(
            version="1",
            agent="192.0.2.1",
            registry="local",
            docker=dockerd,
            store="/s",
            overlays=[DCOS],
            problems=["p"],
        )

    def overlays(self) -> list[OverlayReport]:
        self._note("overlays")
        return [DCOS]

    def usage(self, name: str) -> OverlayUsage:
        self._note("usage", name)
        return USAGE

    def room(self, overlay: str, agent: Address | None, half: Half, count: int) -> Room:
        self._note("room", overlay, str(agent), half, count)
        return Room(
            overlay=overlay, agent="192.0.2.1", half=half, count=count, room=True, free=7, why="7 free", as_of=1.5
        )

    def figures(self) -> Figures:
        self._note("figures")
        return FIGURES

    def dcos_agent(self) -> dcos.Agent:
        self._note("dcos agent")
        return DCOS_AGENT

    def dcos_cluster(self) -> dcos.Cluster:
        self._note("dcos cluster")
        return dcos.Cluster(agents=[DCOS_AGENT])

    def purge(self, agents: Sequence[Address]) -> dcos.Cluster:
        self._note("purge", *map(str, agents))
        return dcos.Cluster()

    def try_overlay(self, overlay: Overlay) -> OverlayReport:
        self._note("try", overlay)
        return DCOS

    def define_overlay(self, overlay: Overlay) -> OverlayReport:
        self._note("define", overlay)
        return DCOS

    def define_without_network(self, overlay: Overlay) -> OverlayReport:
        self._note("define without network", overlay)
        return DCOS

    def remove_overlay(self, name: str) -> None:
        self._note("remove", name)

    def keep_overlay(self, name: str) -> None:
        self._note("keep", name)

    def set_backend(self, name: str, backend: Backend) -> OverlayReport:
        self._note("set", name, backend)
        return msgspec.structs.replace(DCOS, backend=backend)

    def agents(self) -> list[AgentReport]:
        self._note("agents")
        return [OTHER_AGENT]

    def forget_agent(self, agent_ip: Address) -> None:
        self._note("forget", str(agent_ip))

    def addresses(self, overlay: str | None, *, with_free: bool) -> list[AddressReport]:
        self._note("addresses", overlay, with_free)
        return [WEB]

    def ports(self) -> list[PortReport]:
        self._note("ports")
        return [PORT]

    def reserve(self, wish: Wish) -> ReservationReport:
        self._note("reserve", wish)
        return KEPT

    def release(self, wish: Wish) -> list[ReservationReport]:
        self._note("release", wish)
        return [KEPT]

    def limit(self, address: Address, limits: dict[str, int]) -> AddressReport:
        self._note("limit", str(address), limits)
        return WEB

    def check(self) -> list[Finding]:
        self._note("check")
        return [FINDING]

    def repair(self) -> Repair:
        self._note("repair")
        return Repair(changed=["made bridge d-dcos"], freed=["address 9.0.0.140: ..."], findings=[FINDING])


@contextmanager
def serving(operations: _Operations, path: Path) -> Iterator[Server]:
    server = Server(create_app(operations), path)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def path() -> Iterator[Path]:
    with fast_directory() as directory:
        yield Path(directory) / "run" / "dni.sock"


@pytest.fixture
def operations(path: Path) -> Iterator[_Operations]:
    operations = _Operations()
    with serving(operations, path):
        yield operations


@pytest.fixture
def console(operations: _Operations, path: Path) -> Console:
    assert operations.error is None
    return Console(path, patience=10)


def ask(path: Path, method: str, target: str, body: bytes | None = None) -> tuple[int, str | None, Any]:
    """Ask without the client; answer status, content type and decoded body."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(10)
    connection.sock.connect(str(path))
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), json.loads(response.read())
    finally:
        connection.close()
