# SPDX-License-Identifier: Apache-2.0
"""How full it is, over the operator API: for people, for schedulers, for Prometheus, and over TCP where asked for."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dni_driver.console.app import create_app, create_reading_app
from dni_driver.console.client import Console
from dni_driver.console.server import Server
from dni_driver.core.errors import NotFound, Refused, Unavailable
from dni_driver.core.listen_address import ListenAddress
from tests.contract.operations import FIGURES, USAGE, _Operations, console, operations, path

__all__ = ["console", "operations", "path"]


def test_usage_is_answered_whole(console: Console, operations: _Operations) -> None:
    assert console.get("/v1/overlays/dcos/usage") == msgspec.to_builtins(USAGE)
    assert operations.asked == [("usage", "dcos")]


def test_usage_of_what_is_not_there_is_answered_as_such(console: Console, operations: _Operations) -> None:
    operations.error = NotFound("there is no overlay 'x'")
    with pytest.raises(NotFound, match="there is no overlay 'x'"):
        console.get("/v1/overlays/x/usage")


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", ("room", "dcos", "None", "docker", 1)),
        ("?agent=10.0.0.2&count=12", ("room", "dcos", "10.0.0.2", "docker", 12)),
        ("?agent=fd00::0:12&count=12", ("room", "dcos", "fd00::12", "docker", 12)),
        ("?half=mesos", ("room", "dcos", "None", "mesos", 1)),
    ],
)
def test_a_scheduler_asks_for_room_before_it_places_a_task(
    console: Console, operations: _Operations, query: str, asked: tuple[object, ...]
) -> None:
    answer = console.get(f"/v1/overlays/dcos/room{query}")
    assert (answer["room"], answer["free"], answer["why"], answer["as_of"]) == (True, 7, "7 free", 1.5)
    assert operations.asked == [asked]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("agent=web", "agent='web' is no agent IP: write it like agent=10.0.0.1"),
        ("agent=fe80::1", "is no agent IP"),
        ("count=0", "count='0' is no number of containers"),
        ("count=-1", "is no number of containers"),
        ("count=1.5", "is no number of containers"),
        ("count=%D9%A3", "is no number of containers"),
        ("count=" + "9" * 400, "is no number of containers"),
        ("half=both", "half='both' is neither docker nor mesos"),
        ("agents=10.0.0.1", "'agents' is not known: use agent, count, half"),
    ],
)
def test_a_question_that_is_not_understood_is_refused(
    console: Console, operations: _Operations, query: str, text: str
) -> None:
    with pytest.raises(Refused, match=text):
        console.get(f"/v1/overlays/dcos/room?{query}")
    assert operations.asked == []


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_every_figure() -> None:
    response = create_app(_Operations()).test_client().get("/metrics")
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain; version=")
    dcos = (("family", "ipv4"), ("half", "docker"), ("overlay", "dcos"))
    assert samples(response.text) == {
        ("dni_build_info", (("version", "1.2.3"),)): 1,
        ("dni_addresses", (*dcos, ("state", "used"))): 2,
        ("dni_addresses", (*dcos, ("state", "reserved"))): 1,
        ("dni_addresses", (*dcos, ("state", "free"))): 122,
        ("dni_endpoints", (("overlay", "dcos"),)): 2,
        ("dni_registry_reachable", ()): 1,
        ("dni_agents", (("state", "alive"),)): 4,
        ("dni_agents", (("state", "lost"),)): 1,
        ("dni_leases", (("family", "ipv4"), ("holder", "other"), ("overlay", "dcos"))): 3,
        ("dni_docker_reachable", ()): 1,
        ("dni_problems", ()): 1,
        ("dni_collector_candidates", ()): 5,
        ("dni_collector_reclaimed_total", ()): 6,
        ("dni_kernel_changes_total", ()): 7,
    }


def test_a_registry_that_is_away_is_a_figure_and_not_an_absence_of_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = msgspec.structs.replace(FIGURES, cluster=None)
    operations = _Operations()
    monkeypatch.setattr(operations, "figures", lambda: away)
    found = samples(create_app(operations).test_client().get("/metrics").text)
    assert found["dni_registry_reachable", ()] == 0
    assert found["dni_docker_reachable", ()] == 1
    assert not [name for name, _ in found if name in ("dni_agents", "dni_leases")]


def test_figures_that_cannot_be_had_are_an_error_in_json() -> None:
    operations = _Operations()
    operations.error = Unavailable("the store is busy; try again")
    response = create_app(operations).test_client().get("/metrics")
    assert (response.status_code, response.get_json()) == (503, {"error": "the store is busy; try again"})


def test_the_documentation_names_every_figure_and_no_other() -> None:
    text = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    named = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `dni_")}
    response = create_app(_Operations()).test_client().get("/metrics")
    assert named == {name for name, _ in samples(response.text)}


def test_prometheus_is_not_loaded_before_somebody_asks() -> None:
    program = "import sys, dni_driver.cli.serve_agent; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "prometheus_client" not in said.stdout.split()


@pytest.fixture
def tcp(path: Path) -> Iterator[tuple[ListenAddress, _Operations]]:
    operations = _Operations()
    with socket.create_server(("127.0.0.1", 0)) as free:
        at = ListenAddress(str(free.getsockname()[1]))
    server = Server(create_app(operations), path)
    server.listen_too(create_reading_app(operations), at)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield at, operations
    server.stop()
    thread.join(60)
    assert not thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((str(at.host), at.port), 1)


def ask(at: ListenAddress, method: str, target: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(str(at.host), at.port, timeout=60)
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_over_tcp_everything_can_be_looked_at_beside_the_socket(
    tcp: tuple[ListenAddress, _Operations], path: Path
) -> None:
    at, _ = tcp
    for target in ("/v1/status", "/v1/overlays", "/v1/overlays/dcos/usage", "/v1/addresses"):
        status, answer = ask(at, "GET", target)
        assert status == 200
        assert answer == Console(path, patience=10).get(target)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/overlays"),
        ("DELETE", "/v1/overlays/dcos"),
        ("POST", "/v1/reservations"),
        ("DELETE", "/v1/reservations?overlay=dcos&addresses=9.0.0.140"),
        ("POST", "/v1/limits"),
        ("POST", "/v1/check"),
        ("POST", "/v1/repair"),
    ],
)
def test_over_tcp_nothing_can_be_changed(tcp: tuple[ListenAddress, _Operations], method: str, target: str) -> None:
    at, operations = tcp
    status, answer = ask(at, method, target, b'{"name": "dev", "subnet": "10.64.0.0/16"}')
    assert (status, answer) == (403, {"error": "over TCP nothing is changed: ask at the socket, as `dni` does"})
    assert operations.asked == []


def test_a_port_that_somebody_has_is_named(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = ListenAddress(str(taken.getsockname()[1]))
        server = Server(create_app(_Operations()), path)
        with pytest.raises(Unavailable, match=rf"cannot listen on 127\.0\.0\.1:{at.port} \(api\.listen\): "):
            server.listen_too(create_reading_app(_Operations()), at)
        server.stop()
        server.run()


@pytest.mark.parametrize(
    ("text", "shown"),
    [("62090", "127.0.0.1:62090"), ("10.0.0.1:1", "10.0.0.1:1"), ("[::1]:65535", "[::1]:65535")],
)
def test_an_address_to_listen_on_is_loopback_where_nothing_else_is_said(text: str, shown: str) -> None:
    assert str(ListenAddress(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "0", "65536", ":1", "::1:1", "[10.0.0.1]:1", "localhost:1", "10.0.0.1:", "٣", "1 "]
)
def test_what_is_no_address_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"has no port from 1 to 65535|is no IP address"):
        ListenAddress(text)


def test_whoever_opens_many_connections_over_tcp_is_in_nobodys_way_at_the_socket(
    tcp: tuple[ListenAddress, _Operations], path: Path
) -> None:
    at, _ = tcp
    with ExitStack() as idle:
        for _ in range(150):
            idle.enter_context(socket.create_connection((str(at.host), at.port), 10))
        for _ in range(30):
            assert Console(path, patience=5).get("/v1/overlays")
    assert ask(at, "GET", "/v1/overlays")[0] == 200


def test_a_body_that_is_announced_large_is_not_taken_over_tcp(tcp: tuple[ListenAddress, _Operations]) -> None:
    at, _ = tcp
    with socket.create_connection((str(at.host), at.port), 10) as caller:
        caller.sendall(b"POST /v1/overlays HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert caller.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
