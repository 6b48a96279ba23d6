# SPDX-License-Identifier: Apache-2.0
"""An agent that gives canned answers, what it answers, and how `dni` is typed beside it."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dni_driver.cli import main

OVERLAY = {
    "name": "dcos",
    "subnet": "9.0.0.0/8",
    "prefix": 24,
    "subnet6": "fd01:b::/64",
    "prefix6": 80,
    "backend": "vxlan",
    "agent_subnets": ["9.0.0.0/24", "fd01:b::/80"],
    "docker_halves": ["9.0.0.128/25", "fd01:b::8000:0:0/81"],
    "mesos_halves": ["9.0.0.0/25", "fd01:b::/81"],
    "network": {"id": "a" * 64, "name": "dcos"},
    "create": None,
    "usage": {"v4": {"size": 125, "used": 3, "reserved": 1, "free": 121}, "v6": None},
}
NEW = {
    **OVERLAY,
    "name": "dev",
    "subnet": "10.64.0.0/16",
    "subnet6": None,
    "prefix6": None,
    "network": None,
    "create": "docker network create -d dni:latest --ipam-driver dni:latest --ipam-opt overlay=dev dev",
}
STATUS = {
    "version": "0.1.0",
    "agent": "10.0.0.1",
    "registry": "local",
    "store": "/var/lib/dni/dni.db",
    "docker": {"reachable": False, "version": None, "error": "no such file: /run/docker.sock"},
    "overlays": [OVERLAY],
    "problems": ["the registry is read-only"],
}
ADDRESS = {
    "pool": "dcos/v4",
    "overlay": "dcos",
    "address": "9.0.0.130",
    "state": "bound",
    "endpoint": "e" * 64,
    "network": "web-network-of-a-long-name",
    "container": "web",
    "since": 1_700_000_000,
}
KEPT = {
    "overlay": "dcos",
    "first": "9.0.0.140",
    "last": "9.0.0.140",
    "size": 1,
    "container": "web",
    "since": 1_700_000_000.0,
    "docker_run": "--name web --net dcos --ip 9.0.0.140",
}
PORT = {
    "protocol": "tcp",
    "host_ip": "0.0.0.0",
    "host_port": 8080,
    "container": "web",
    "container_ip": "9.0.0.130",
    "container_port": 80,
    "network": "dcos",
    "endpoint": "e" * 64,
}
HALF = {"half": "9.0.0.128/25", "size": 125, "used": 3, "reserved": 1, "free": 121, "why": None}
ELSEWHERE = {
    **HALF,
    "half": "9.0.1.128/25",
    "used": None,
    "reserved": None,
    "free": None,
    "why": "agent 10.0.0.2 has not told yet how full it is: ask there (dni overlay usage)",
}
UNREADABLE = {**ELSEWHERE, "half": "9.0.0.0/25", "why": "/var/lib/cni cannot be read"}
USAGE = {
    "overlay": "dcos",
    "agents": [
        {
            "agent": "10.0.0.1",
            "here": True,
            "subnets": [{"subnet": "9.0.0.0/24", "since": 1_700_000_000.0, "mesos": UNREADABLE, "docker": HALF}],
            "as_of": 1_700_000_100.0,
        },
        {
            "agent": "10.0.0.2",
            "here": False,
            "subnets": [{"subnet": "9.0.1.0/24", "since": None, "mesos": ELSEWHERE, "docker": ELSEWHERE}],
            "as_of": None,
        },
        {
            "agent": "10.0.0.3",
            "here": False,
            "subnets": [{"subnet": "9.0.2.0/24", "since": 1_700_000_000.0, "mesos": HALF, "docker": HALF}],
            "as_of": 1_700_000_088.0,
        },
    ],
    "problem": None,
}


class _CannedAgent(socketserver.ThreadingUnixStreamServer):
    """Answers each `METHOD PATH` with what `answers` holds for it, and remembers what was asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.path = path
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: _CannedAgent

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = f"{self.command} {self.path}"
        self.server.asked.append((asked, json.loads(body) if body else None))
        status, answer = self.server.answers.get(asked, (404, {"error": f"no answer to {asked}"}))
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names http.server looks for

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_CannedAgent]:
    with _CannedAgent(tmp_path / "dni.sock") as server:
        monkeypatch.setenv("DNI_API_SOCKET", str(server.path))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Ran(NamedTuple):
    """How a command ended, and what it wrote."""

    status: object
    out: str
    err: str


Dni = Callable[..., Ran]


@pytest.fixture
def dni(capsys: pytest.CaptureFixture[str]) -> Dni:
    def dni(*words: str) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(words)
        return Ran(ended.value.code, *capsys.readouterr())

    return dni
