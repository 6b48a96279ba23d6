# SPDX-License-Identifier: Apache-2.0
"""Asks the agent on this host, over the socket of the operator API.

`http.client` would take longer to import than all the rest of `dni-cni`: it is plain HTTP/1.0 instead, one request
for each connection, the answer's end being that of the connection.
"""

from __future__ import annotations

import json
import socket
import time

from dni_driver.mesos.cni_errors import (
    FAILED,
    INVALID_CONFIGURATION,
    REFUSED,
    TAKEN,
    TRY_AGAIN,
    UNKNOWN_CONTAINER,
    CniError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PATIENCE = 30.0
"""Seconds: longer than the agent takes at the most to answer."""
_LARGEST = 1 << 20
_UNQUOTED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_CODES = {400: REFUSED, 404: INVALID_CONFIGURATION, 409: TAKEN, 422: INVALID_CONFIGURATION, 503: TRY_AGAIN}
_NOT_FOUND = 404
"""An overlay there is not; but where it is asked about a container, as CHECK does, that container."""


def ask(path: str, method: str, target: str, body: dict[str, Any] | None = None, patience: float = PATIENCE) -> Any:
    """Answer what the agent at a socket answers; raise CniError where it refuses, or does not answer in time."""
    ends = time.monotonic() + patience
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience)
            connection.connect(path)
            connection.sendall(_request(method, target, body))
            status, answer = _read(connection, ends)
    except OSError as error:
        told = f"the dni agent does not answer at {path}: start it with `dni up` or `systemctl start dni-agent`"
        raise CniError(TRY_AGAIN, told, str(error)) from None
    except ValueError:
        raise stranger(path) from None
    if status >= 400:  # noqa: PLR2004
        text = answer.get("error") if isinstance(answer, dict) else None
        raise CniError(_code(method, status), str(text or f"the dni agent answered with status {status}"))
    return answer


def _code(method: str, status: int) -> int:
    if (method, status) == ("GET", _NOT_FOUND):
        return UNKNOWN_CONTAINER
    return _CODES.get(status, FAILED)


def stranger(path: str) -> CniError:
    """Build the error of an answer that is not the agent's."""
    return CniError(FAILED, f"what answers at {path} is not the dni agent")


def target(path: str, **query: str) -> str:
    """Answer a path with its query."""
    return path + "?" + "&".join(f"{key}={_quoted(value)}" for key, value in query.items())


def _quoted(text: str) -> str:
    """Answer a text as a query has it; `urllib` takes as long to import as the rest of this module."""
    return "".join(chr(byte) if byte in _UNQUOTED else f"%{byte:02X}" for byte in text.encode())


def _request(method: str, target: str, body: dict[str, Any] | None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {target} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def _read(connection: socket.socket, ends: float) -> tuple[int, Any]:
    """Read an answer to its end; raise OSError where that comes too late, ValueError where it is no answer."""
    received = b""
    while len(received) < _LARGEST:
        connection.settimeout(max(ends - time.monotonic(), 0.001))
        piece = connection.recv(1 << 16)
        if not piece:
            break
        received += piece
    head, _, content = received.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not head:
        raise OSError("it closed the connection")
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):  # noqa: PLR2004
        raise ValueError(head)
    return int(words[1]), json.loads(content)
