# SPDX-License-Identifier: Apache-2.0
"""dockerd's client for plugins: what it sends, what it takes for success, when it tries again.

The rules are those of moby's pkg/plugins/client.go and libnetwork's drivers/remote and ipams/remote, the same
from 20.10 to 29.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

ACCEPT = "application/vnd.docker.plugins.v1.2+json"
HOST_OF_20_10 = ""
HOST_SINCE_23_0_7 = "plugin.moby.localhost"

BODILESS = frozenset(
    {
        "Plugin.Activate",
        "NetworkDriver.GetCapabilities",
        "IpamDriver.GetCapabilities",
        "IpamDriver.GetDefaultAddressSpaces",
    }
)
"""The calls that dockerd sends without a body."""

OPTIONAL = frozenset(
    {"NetworkDriver.ProgramExternalConnectivity", "NetworkDriver.RevokeExternalConnectivity"},
)
"""The calls whose 404 means "not implemented", and is no error."""

PAUSES = (1, 2, 4, 8)
"""Seconds between attempts; one more, 16, would cross the 30 that dockerd allows."""

_PATIENCE = 30.0
"""Seconds until a test gives up; dockerd itself would wait for ever."""


class PluginError(Exception):
    """What dockerd makes of an answer that is no success; the text is what it shows its user."""


class Unreachable(Exception):  # noqa: N818
    """No attempt reached the plugin."""


@dataclass(frozen=True)
class Reply:
    """What came back over the socket."""

    status: int
    content_type: str
    connection: str
    body: bytes


def request_bytes(method: str, body: bytes, host: str = HOST_OF_20_10, verb: str = "POST") -> bytes:
    """Write a request as Go's client does: no Content-Type, and a Host that may be empty."""
    lines = (
        f"{verb} /{method} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: Go-http-client/1.1",
        f"Content-Length: {len(body)}",
        f"Accept: {ACCEPT}",
        "Accept-Encoding: gzip",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def exchange(path: Path, request: bytes, verb: str = "POST") -> Reply:
    """Send a request on a connection of its own, and read the answer; raise OSError or HTTPException."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(str(path))
        return _converse(connection, request, verb)


def _converse(connection: socket.socket, request: bytes, verb: str) -> Reply:
    # An answer may come before all was read, to a request that is too long.
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(request)
    with http.client.HTTPResponse(connection, method=verb) as response:
        response.begin()
        return Reply(
            status=response.status,
            content_type=response.getheader("Content-Type", ""),
            connection=response.getheader("Connection", ""),
            body=response.read(),
        )


class Dockerd:
    """A client on one plugin's socket. `second` is how long its seconds last."""

    def __init__(self, path: Path, host: str = HOST_OF_20_10, second: float = 0.01) -> None:
        """Connect to nothing yet: each call has a connection of its own."""
        self.path = path
        self._host = host
        self._second = second

    def call(self, method: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call a method and answer what it answered.

        Raises PluginError for everything that dockerd takes for an error, Unreachable after the last attempt.
        """
        # Go's encoder ends with a newline.
        body = b"" if method in BODILESS else json.dumps(arguments or {}).encode() + b"\n"
        return _understood(method, self.send(method, body))

    def send(self, method: str, body: bytes) -> Reply:
        """Send bytes, again after a pause where the connection fails; an answer of any status is final."""
        for pause in (*PAUSES, None):
            connection = socket.socket(socket.AF_UNIX)
            try:
                with connection:
                    connection.settimeout(_PATIENCE)
                    connection.connect(str(self.path))
                    # From here on the body is read from: what broke is repeated without it.
                    request, body = request_bytes(method, body, self._host), b""
                    return _converse(connection, request, "POST")
            except (OSError, http.client.HTTPException) as error:
                if pause is None:
                    raise Unreachable(f"{method}: {error}") from error
            time.sleep(pause * self._second)
        raise AssertionError("the last attempt answers or raises")


def _understood(method: str, reply: Reply) -> dict[str, Any]:
    if reply.status == http.client.OK:
        return _success(method, reply.body)
    if reply.status == http.client.NOT_FOUND and method in OPTIONAL:
        return {}
    raise PluginError(f"{method}: {_error_text(reply.body)}")


def _success(method: str, body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise PluginError(f"{method}: {error or 'EOF'}") from None
    if answer is None:
        return {}
    if not isinstance(answer, dict):
        raise PluginError(f"{method}: json: cannot unmarshal into a struct")
    key = "Error" if method.startswith("IpamDriver.") else "Err"
    if answer.get(key):
        raise PluginError(f"remote: {answer[key]}")
    return cast("dict[str, Any]", answer)


def _error_text(body: bytes) -> str:
    """Answer `Err`, whichever driver was asked; what cannot be read is shown raw."""
    try:
        return str(json.loads(body)["Err"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")
