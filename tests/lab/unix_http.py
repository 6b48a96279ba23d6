# SPDX-License-Identifier: Apache-2.0
"""One HTTP request over a unix socket."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path


def request(path: Path, method: str, target: str, *, timeout: float = 5) -> int:
    """Send a request without a body, answer the status; OSError or HTTPException when there is none."""
    connection = _Connection(path, timeout)
    try:
        connection.request(method, target, headers={"Host": "localhost"})
        return connection.getresponse().status
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
