# SPDX-License-Identifier: Apache-2.0
"""A few paths of Docker's API on a Unix socket, with answers in the shape that engines give them."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

DCOS = "d" * 64
BR0 = "b" * 64
WEB = "1" * 64
OLD = "3" * 64

_STEP = 0.02
"""Seconds between two looks for more events."""


def network(name: str, identity: str, driver: str, ipam: str, *config: dict[str, Any]) -> dict[str, Any]:
    return {
        "Name": name,
        "Id": identity,
        "Scope": "local",
        "Driver": driver,
        "EnableIPv6": False,
        "IPAM": {"Driver": ipam, "Options": {}, "Config": list(config)},
        "Internal": False,
        "Containers": {},
        "Options": {},
        "Labels": {},
    }


def attached(endpoint: str, name: str, address: str, address6: str = "") -> dict[str, str]:
    return {
        "Name": name,
        "EndpointID": endpoint,
        "MacAddress": "02:42:09:00:00:82",
        "IPv4Address": address,
        "IPv6Address": address6,
    }


def container(name: str, network_id: str, endpoint: str, address: str, address6: str = "") -> dict[str, Any]:
    membership = {
        "NetworkID": network_id,
        "EndpointID": endpoint,
        "Gateway": "9.0.0.129",
        "IPAddress": address,
        "IPPrefixLen": 25,
        "GlobalIPv6Address": address6,
        "MacAddress": "02:42:09:00:00:82",
        "DriverOpts": None,
    }
    return {"Id": "c" * 64, "Names": [f"/{name}"], "NetworkSettings": {"Networks": {"x": membership}}}


class DockerApi:
    """Serves `networks`, `containers` and `plugins`; `events` are streamed, those that come later too.

    What is put into `gone` is listed, and 404 when it is inspected.
    """

    def __init__(self, path: Path) -> None:
        """Listen."""
        self.version = "28.5.2"
        self.server = "Docker/28.5.2 (linux)"
        self.plugins: list[dict[str, Any]] = []
        self.networks: list[dict[str, Any]] = []
        self.containers: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.gone: set[str] = set()
        self.broken: str | None = None
        self.asked: list[str] = []
        self.filters: dict[str, Any] = {}
        self.ends = threading.Event()
        self.connections: list[socket.socket] = []
        self._server = _Server(str(path), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        """Answer."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, as dockerd does when it is killed."""
        self.ends.set()
        self._server.shutdown()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join(60)

    def answer(self, path: str) -> tuple[int, Any]:
        """Answer status and body of a GET."""
        self.asked.append(path)
        if path == "/version":
            return 200, {"Version": self.version, "ApiVersion": "1.51", "MinAPIVersion": "1.24"}
        if self.broken is not None:
            return 500, {"message": self.broken}
        lists = {
            "/_ping": "OK",
            "/plugins": self.plugins,
            "/networks": [{**one, "Containers": {}} for one in self.networks],
            "/containers/json": self.containers,
        }
        if path in lists:
            return 200, lists[path]
        found = [one for one in self.networks if path == f"/networks/{one['Id']}" and one["Id"] not in self.gone]
        return (200, found[0]) if found else (404, {"message": "network not found"})

    def told(self) -> Iterator[dict[str, Any]]:
        """Answer all events, those to come too, until the end."""
        number = 0
        while len(self.events) > number or not self.ends.wait(_STEP):
            for event in self.events[number:]:
                number += 1
                yield event


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False


def _handler(api: DockerApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            api.connections.append(self.connection)

        def version_string(self) -> str:
            return api.server

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = parts.path.removeprefix("/v1.51")
            if path == "/events":
                api.filters = json.loads(parse_qs(parts.query)["filters"][0])
                self._stream()
            else:
                self._whole(*api.answer(path))

        def _whole(self, status: int, answer: Any) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with suppress(BrokenPipeError):
                for event in api.told():
                    body = json.dumps(event).encode() + b"\n"
                    self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
                    self.wfile.flush()
            self.close_connection = True

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: Any) -> None:
            return

    return Handler
