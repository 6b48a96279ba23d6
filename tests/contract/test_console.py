# SPDX-License-Identifier: Apache-2.0
"""The operator API over its real socket: what it answers, and what its client makes of that."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dni_driver.console.app import LARGEST_BODY, create_app
from dni_driver.console.client import Console
from dni_driver.console.server import Server
from dni_driver.core.addresses.allocation import Usage
from dni_driver.core.addresses.filling import Load
from dni_driver.core.addresses.fullness import AgentUsage, Half, HalfUsage, OverlayUsage, Room, SubnetUsage
from dni_driver.core.addresses.reservations import Wish, read_wish
from dni_driver.core.cluster import AgentReport, HeldReport
from dni_driver.core.errors import (
    DeadlineExceeded,
    DniError,
    Exhausted,
    InUse,
    KernelError,
    NotFound,
    Refused,
    Unavailable,
)
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


def test_status_is_answered_whole(console: Console) -> None:
    status = console.get("/v1/status")
    parts = {"version", "agent", "registry", "docker", "store", "overlays", "problems", "cluster", "halves"}
    assert set(status) == parts
    assert status["docker"] == {"reachable": False, "version": None, "error": "dockerd does not answer"}
    assert status["overlays"] == console.get("/v1/overlays")


def test_an_overlay_is_answered_whole_with_numbers_beyond_64_bits(console: Console) -> None:
    (overlay,) = console.get("/v1/overlays")
    assert overlay == {
        "name": "dcos",
        "subnet": "9.0.0.0/8",
        "prefix": 24,
        "subnet6": "fd01:b::/48",
        "prefix6": 56,
        "backend": "vxlan",
        "agent_subnets": ["9.0.0.0/24"],
        "docker_halves": ["9.0.0.128/25"],
        "mesos_halves": ["9.0.0.0/25"],
        "network": {"id": "d" * 64, "name": "dcos"},
        "create": None,
        "usage": {
            "v4": {"size": 125, "used": 2, "reserved": 1, "free": 122},
            "v6": {"size": 2**71 - 2, "used": 0, "reserved": 0, "free": 2**71 - 2},
        },
        "local_subnet": None,
        "agents": 0,
        "hindrance": None,
        "leaving": None,
    }


def test_a_new_overlay_is_defined_from_its_body(console: Console, operations: _Operations) -> None:
    body = {"name": "dev", "subnet": "10.64.0.0/16", "prefix": 26, "subnet6": "fd01:d::/64", "backend": "auto"}
    assert console.post("/v1/overlays", body)["name"] == "dcos"
    ((_, overlay),) = operations.asked
    assert (str(overlay.subnet), overlay.prefix, str(overlay.subnet6), overlay.prefix6, overlay.backend) == (
        "10.64.0.0/16",
        26,
        "fd01:d::/64",
        80,
        "auto",
    )


def test_an_overlay_for_a_network_being_created_is_tried_out(console: Console, operations: _Operations) -> None:
    console.post("/v1/overlays", {"name": "dev", "subnet": "10.64.0.0/16", "trial": True})
    assert [asked for asked, _ in operations.asked] == ["try"]


def test_an_overlay_can_be_defined_without_a_network(console: Console, operations: _Operations) -> None:
    console.post("/v1/overlays", {"name": "dev", "subnet": "10.64.0.0/16", "network": False})
    assert [asked for asked, _ in operations.asked] == ["define without network"]


def test_what_leaves_the_agent_names_the_driver_as_users_type_it() -> None:
    operations = _Operations()
    operations.error = Refused("use `docker network create -d dni --ipam-driver dni NAME`")
    client = create_app(operations, "dni:latest").test_client()
    assert client.get("/v1/status").get_json() == {
        "error": "use `docker network create -d dni:latest --ipam-driver dni:latest NAME`"
    }


def test_making_an_overlay_answers_201(path: Path, operations: _Operations) -> None:
    status, kind, _ = ask(path, "POST", "/v1/overlays", b'{"name": "dev", "subnet": "10.64.0.0/16"}')
    assert (status, kind) == (201, "application/json")
    assert len(operations.asked) == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {"name": "dev", "subnet": "10.64.0.0/33"},
            "subnet '10.64.0.0/33' cannot be used: .*; write it like 10.64.0.0/16",
        ),
        ({"name": "dev", "subnet": "10.64.0.1/16"}, "10.64.0.1/16 has host bits set"),
        ({"name": "dev", "subnet": "fd01:d::/64"}, "subnet 'fd01:d::/64' is of the other family: use --subnet6"),
        ({"name": "dev", "subnet6": "10.64.0.0/16"}, "subnet6 '10.64.0.0/16' is of the other family: use --subnet"),
        ({"name": "dev", "subnet6": "fd01:d::/640"}, "write it like fd01:d::/64"),
        (
            {"name": "dev", "subnet": "10.64.0.0/16", "prefix6": 80},
            "of 80 needs subnet6 beside it, such as --subnet6 fd01:d::/64",
        ),
        ({"name": "dev", "subnet": "10.64.0.0/16", "prefix": 30}, "its prefix must be 16 to 29"),
        ({"name": "dev"}, "overlay 'dev' needs a subnet"),
        ({"name": "a.b", "subnet": "10.64.0.0/16"}, "'a.b' has a dot"),
        ({"subnet": "10.64.0.0/16"}, "missing required field `name`.*allowed: name, subnet, prefix, subnet6"),
        ({"name": "dev", "subnett": "10.64.0.0/16"}, "unknown field `subnett`"),
        ({"name": "dev", "subnet": "10.64.0.0/16", "prefix": "24"}, r"Expected `int \| null`, got `str`"),
        ({"name": "dev", "subnet": "10.64.0.0/16", "backend": "gre"}, "Invalid enum value 'gre'"),
    ],
)
def test_a_body_that_makes_no_overlay_is_refused_in_words(
    console: Console, operations: _Operations, body: dict[str, Any], text: str
) -> None:
    with pytest.raises(Refused, match=text):
        console.post("/v1/overlays", body)
    assert operations.asked == []


def test_the_backend_of_an_overlay_is_changed(console: Console, operations: _Operations) -> None:
    assert console.patch("/v1/overlays/dcos", {"backend": "direct"})["backend"] == "direct"
    with pytest.raises(Refused, match="Invalid enum value 'gre'"):
        console.patch("/v1/overlays/dcos", {"backend": "gre"})
    assert operations.asked == [("set", "dcos", "direct")]


def test_the_removal_of_an_overlay_is_called_off(console: Console, operations: _Operations) -> None:
    assert console.post("/v1/overlays/my%20net/keep", {}) == {}
    assert operations.asked == [("keep", "my net")]


def test_agents_are_listed_and_forgotten(console: Console, operations: _Operations) -> None:
    assert msgspec.convert(console.get("/v1/agents"), list[AgentReport]) == [OTHER_AGENT]
    assert console.delete("/v1/agents/192.0.2.2") == {}
    assert console.delete("/v1/agents/FD00%3A%3A0%3A12") == {}
    with pytest.raises(Refused, match="'web' is no agent IP: `dni agent ls` lists them"):
        console.delete("/v1/agents/web")
    assert operations.asked == [("agents",), ("forget", "192.0.2.2"), ("forget", "fd00::12")]


def test_an_overlay_is_removed_by_name(console: Console, operations: _Operations) -> None:
    assert console.delete("/v1/overlays/my%20net") == {}
    assert operations.asked == [("remove", "my net")]


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("/v1/addresses", ("addresses", None, False)),
        ("/v1/addresses?all=1", ("addresses", None, True)),
        ("/v1/addresses?overlay=dcos&all=0", ("addresses", "dcos", False)),
    ],
)
def test_addresses_are_chosen_by_the_query(
    console: Console, operations: _Operations, target: str, asked: tuple[Any, ...]
) -> None:
    (address,) = console.get(target)
    assert address["address"] == "9.0.0.130"
    assert address["since"] == 1700000000.5
    assert operations.asked == [asked]


def test_published_ports_are_listed(console: Console, operations: _Operations) -> None:
    (port,) = console.get("/v1/ports")
    assert (port["host_port"], port["container"], port["container_port"]) == (8080, "web", 80)
    assert operations.asked == [("ports",)]


def test_limits_are_changed_from_the_body(console: Console, operations: _Operations) -> None:
    body = {"address": "9.0.0.130", "egress": "1.5gbit", "ingress": "none"}
    assert console.post("/v1/limits", body)["address"] == "9.0.0.130"
    console.post("/v1/limits", {"address": "9.0.0.130", "ingress": "10mbit"})
    assert operations.asked == [
        ("limit", "9.0.0.130", {"egress": 1_500_000_000, "ingress": 0}),
        ("limit", "9.0.0.130", {"ingress": 10_000_000}),
    ]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"address": "web", "egress": "10mbit"}, "'web' is not an IP address"),
        ({"address": "9.0.0.130", "egress": "much"}, "option egress='much' is not a rate"),
        ({"address": "9.0.0.130"}, "nothing is to be changed"),
        ({"egress": "10mbit"}, "missing required field `address`"),
    ],
)
def test_a_body_that_makes_no_limits_is_refused_in_words(
    console: Console, operations: _Operations, body: dict[str, Any], text: str
) -> None:
    with pytest.raises(Refused, match=text):
        console.post("/v1/limits", body)
    assert operations.asked == []


@pytest.mark.parametrize(
    ("body", "wish"),
    [
        ({"overlay": "dcos", "addresses": "9.0.0.140", "container": "web"}, read_wish("dcos", "9.0.0.140", "web")),
        ({"overlay": "dcos", "container": "web", "family": 6}, read_wish("dcos", container="web", family=6)),
        ({"overlay": "dcos", "addresses": "9.0.0.192/28"}, read_wish("dcos", "9.0.0.192-9.0.0.207")),
    ],
)
def test_a_reservation_is_made_from_its_body(
    console: Console, operations: _Operations, body: dict[str, Any], wish: Wish
) -> None:
    assert console.post("/v1/reservations", body)["first"] == "9.0.0.140"
    assert operations.asked == [("reserve", wish)]


@pytest.mark.parametrize(
    ("query", "wish"),
    [
        ("overlay=dcos&addresses=9.0.0.192%2F28", read_wish("dcos", "9.0.0.192/28")),
        ("overlay=dcos&container=web", read_wish("dcos", container="web")),
    ],
)
def test_a_reservation_is_given_up_by_the_query(
    console: Console, operations: _Operations, query: str, wish: Wish
) -> None:
    (given_up,) = console.delete(f"/v1/reservations?{query}")
    assert given_up["container"] == "web"
    assert operations.asked == [("release", wish)]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"overlay": "dcos"}, "nothing is named: give an address"),
        ({"overlay": "dcos", "addresses": "web"}, "'web' is not understood"),
        ({"overlay": "dcos", "container": "-"}, "is no container name"),
        ({"overlay": "dcos", "container": "web", "family": 5}, "Invalid enum value 5"),
        ({"addresses": "9.0.0.140"}, "missing required field `overlay`"),
        ({"overlay": "dcos", "name": "web"}, "allowed: overlay, addresses, container, family"),
    ],
)
def test_a_body_that_makes_no_reservation_is_refused_in_words(
    console: Console, operations: _Operations, body: dict[str, Any], text: str
) -> None:
    with pytest.raises(Refused, match=text):
        console.post("/v1/reservations", body)
    assert operations.asked == []


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("/v1/addresses?overlays=dcos", "'overlays' is not known: use overlay, all"),
        ("/v1/addresses?all=yes", "all='yes' is neither 0 nor 1"),
    ],
)
def test_a_query_that_is_not_understood_is_refused(console: Console, target: str, text: str) -> None:
    with pytest.raises(Refused, match=text):
        console.get(target)


def test_check_and_repair_answer_what_was_found_and_done(console: Console) -> None:
    finding = {"about": "d-dcos", "problem": "is missing", "mend": "dni repair"}
    assert console.post("/v1/check", {}) == {"findings": [finding]}
    assert console.post("/v1/repair", {}) == {
        "changed": ["made bridge d-dcos"],
        "freed": ["address 9.0.0.140: ..."],
        "findings": [finding],
    }


def test_an_order_takes_no_words(console: Console, operations: _Operations) -> None:
    with pytest.raises(Refused, match="unknown field `force`; allowed: nothing"):
        console.post("/v1/repair", {"force": True})
    assert operations.asked == []


@pytest.mark.parametrize(
    ("error", "status", "raised"),
    [
        (NotFound("no overlay 'x'"), 404, NotFound),
        (InUse("overlay 'x' is in use"), 409, InUse),
        (Exhausted("overlay 'x' is full"), 409, InUse),
        (Refused("no"), 400, Refused),
        (Unavailable("no registry"), 503, Unavailable),
        (DeadlineExceeded("ran out of time"), 503, Unavailable),
        (KernelError("nft said no"), 500, DniError),
    ],
)
def test_an_error_keeps_its_kind_and_its_words(
    console: Console,
    operations: _Operations,
    path: Path,
    error: DniError,
    status: int,
    raised: type[DniError],
) -> None:
    operations.error = error
    assert ask(path, "GET", "/v1/status") == (status, "application/json", {"error": str(error)})
    with pytest.raises(raised) as caught:
        console.get("/v1/status")
    assert type(caught.value) is raised
    assert str(caught.value) == str(error)


def test_what_nobody_foresaw_is_json_too_and_shows_no_inner_parts(operations: _Operations, path: Path) -> None:
    operations.error = ZeroDivisionError("secret")
    status, kind, answer = ask(path, "GET", "/v1/status")
    assert (status, kind) == (500, "application/json")
    assert answer == {"error": "dni failed unexpectedly (ZeroDivisionError): the log of the agent says more"}


@pytest.mark.parametrize(
    ("method", "target", "status", "text"),
    [
        ("GET", "/", 404, "there is nothing at '/'"),
        ("GET", "/v1/overlays/dcos", 405, "GET is not possible at '/v1/overlays/dcos'"),
        ("DELETE", "/v1/status", 405, "DELETE is not possible at '/v1/status'"),
        ("OPTIONS", "/v1/status", 405, "OPTIONS is not possible at '/v1/status'"),
    ],
)
@pytest.mark.usefixtures("operations")
def test_a_path_or_method_that_is_not_there_is_answered_in_json(
    path: Path, method: str, target: str, status: int, text: str
) -> None:
    assert ask(path, method, target) == (status, "application/json", {"error": text})


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'"x"', b"\xff", b'{"name": 7}', b'{"name": "\xff"}'])
def test_a_body_that_is_no_overlay_is_answered_400(path: Path, operations: _Operations, body: bytes) -> None:
    status, kind, answer = ask(path, "POST", "/v1/overlays", body)
    assert (status, kind) == (400, "application/json")
    assert "the request body is not understood" in answer["error"]
    assert operations.asked == []


@pytest.mark.usefixtures("operations")
def test_a_body_without_end_is_answered_413(path: Path) -> None:
    status, _, answer = ask(path, "POST", "/v1/overlays", b"x" * (LARGEST_BODY + 1))
    assert status == 413
    assert answer == {"error": f"the request is longer than {LARGEST_BODY} bytes"}


@pytest.mark.usefixtures("operations")
def test_the_socket_is_for_root_and_its_group(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o660


def test_the_socket_of_a_dead_agent_is_replaced_and_ours_goes_with_us(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(_Operations(), path):
        assert Console(path).post("/v1/check", {})["findings"]
    assert not path.exists()


def test_a_successors_socket_is_left_alone(path: Path) -> None:
    with serving(_Operations(), path):
        path.unlink()
        path.touch()
    assert path.exists()


def test_a_path_that_cannot_be_listened_on_is_named(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(Unavailable, match=f"cannot listen on {path}"):
        Server(create_app(_Operations()), path)


def test_a_socket_that_nobody_serves_is_explained(path: Path) -> None:
    with pytest.raises(Unavailable, match=f"the dni agent does not answer at {path}: start it with `dni up`"):
        Console(path).get("/v1/status")


def test_an_agent_that_takes_too_long_is_explained(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(Unavailable, match=r"took longer than 0\.1 s"):
            Console(path, patience=0.1).get("/v1/status")


def test_something_else_behind_the_socket_is_explained(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()

        def answer() -> None:
            peer, _ = other.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DniError, match="is not the dni agent"):
            Console(path).get("/v1/status")
        thread.join(60)


AS_NOBODY = """
import os, sys
from pathlib import Path
from dni_driver.console.client import Console
from dni_driver.core.errors import Unavailable
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    Console(Path(sys.argv[1])).get("/v1/status")
except Unavailable as error:
    print(error)
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_who_may_not_open_the_socket_is_told_so(operations: _Operations, path: Path) -> None:
    for folder in (path.parent, path.parent.parent):
        folder.chmod(0o755)
    said = subprocess.run([sys.executable, "-c", AS_NOBODY, str(path)], check=True, capture_output=True, text=True)
    assert said.stdout == f"you may not open {path}: use sudo dni ...\n"
    assert operations.asked == []


def test_the_client_loads_nothing_slow() -> None:
    """Every command waits for what its client imports."""
    program = "import sys, dni_driver.console.client; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert not {"flask", "werkzeug", "docker", "waitress", "structlog", "pyroute2", "msgspec"} & set(
        said.stdout.split()
    )
