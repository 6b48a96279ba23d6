# SPDX-License-Identifier: Apache-2.0
"""A Mesos agent with the overlay module, as far as its HTTP endpoint goes: it answers what it is told to."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENDPOINT = "/overlay-agent/overlay"


class FakeMesosAgent(ThreadingHTTPServer):
    """Answers `answer` (JSON, or bytes as they stand) with `status`; notes paths and headers it was asked with."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Listen, on loopback where nothing else is said."""
        super().__init__((host, port), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.answer: Any = {}
        self.status = 200
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.speak: Callable[[BaseHTTPRequestHandler], None] | None = None

    @property
    def url(self) -> str:
        """Answer what registry.url says to have it asked."""
        return f"mesos://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeMesosAgent

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        if self.server.speak is not None:
            self.server.speak(self)
            return
        answer = self.server.answer
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[FakeMesosAgent]:
    """Have one answer inside the block."""
    with FakeMesosAgent(tls=tls) as agent:
        thread = threading.Thread(target=agent.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield agent
        finally:
            agent.shutdown()
            thread.join(10)


def overlay(name: str = "dcos", subnet: str = "9.0.2.0/24", **changed: Any) -> dict[str, Any]:
    """Answer an overlay of the agent, as DC/OS 2 writes it with `docker_bridge` false; None takes a key away."""
    good = {
        "backend": {
            "vxlan": {
                "vni": 1024,
                "vtep_ip": "44.128.0.2/20",
                "vtep_ip6": "fd01:a::2/64",
                "vtep_mac": "70:b3:d5:80:00:02",
                "vtep_name": "vtep1024",
            }
        },
        "info": {"enabled": True, "name": name, "prefix": 24, "subnet": "9.0.0.0/8"},
        "mesos_bridge": {"ip": "9.0.2.0/25", "name": f"m-{name}"},
        "state": {"status": "STATUS_OK"},
        "subnet": subnet,
    }
    return {key: value for key, value in {**good, **changed}.items() if value is not None}


def overlay6(**changed: Any) -> dict[str, Any]:
    """Answer dcos6, which speaks IPv6 alone."""
    return overlay(
        "dcos6",
        **{
            "subnet": None,
            "subnet6": "fd01:b:0:0:2::/80",
            "info": {"enabled": True, "name": "dcos6", "prefix6": 80, "subnet6": "fd01:b::/64"},
            "mesos_bridge": {"ip6": "fd01:b:0:0:2::/81", "name": "m-dcos6"},
            **changed,
        },
    )


def agent(*overlays: dict[str, Any], ip: str = "192.0.2.10") -> dict[str, Any]:
    """Answer what the endpoint does with these overlays; without any: before the module has registered."""
    return {"configuration_attempts": 1, "ip": ip, **({"overlays": list(overlays)} if overlays else {})}


if __name__ == "__main__":
    host, port, answered = sys.argv[1:]
    with FakeMesosAgent(host, int(port)) as server:
        server.answer = answered.encode()
        server.serve_forever()
