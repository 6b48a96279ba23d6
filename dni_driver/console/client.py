# SPDX-License-Identifier: Apache-2.0
"""Asks the operator API of the agent on this host. Imports neither Flask nor anything else that is slow."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from dni_driver.core.errors import DniError, InUse, NotFound, Refused, Unavailable

PATIENCE = 90.0
"""Seconds: longer than the longest deadline of the API."""

_LOOKS_EVERY = 0.1
"""Seconds, where nobody listens yet."""

_ERRORS: dict[int, type[DniError]] = {
    HTTPStatus.BAD_REQUEST: Refused,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: InUse,
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable,
}


class Console:
    """The operator API at a socket, each call on a connection of its own.

    Calls answer decoded JSON, and raise the error of core that the agent answered with: NotFound, InUse, Refused,
    Unavailable (also where nobody answers), DniError.
    """

    def __init__(self, path: Path, patience: float = PATIENCE, awaits: float = 0.0) -> None:
        """Take the socket's path, and the seconds to wait for an answer, and for somebody to listen there at all."""
        self._path = path
        self._patience = patience
        self._awaits = awaits

    def get(self, target: str) -> Any:
        """GET a path with its query."""
        return self._ask("GET", target)

    def post(self, target: str, body: Mapping[str, Any]) -> Any:
        """POST a JSON object to a path."""
        return self._ask("POST", target, _written(body))

    def patch(self, target: str, body: Mapping[str, Any]) -> Any:
        """PATCH a path with a JSON object."""
        return self._ask("PATCH", target, _written(body))

    def delete(self, target: str) -> Any:
        """DELETE a path."""
        return self._ask("DELETE", target)

    def _ask(self, method: str, target: str, body: bytes | None = None) -> Any:
        connection = _Connection(self._path, self._patience, self._awaits)
        try:
            connection.request(method, target, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return _read(response.status, response.read(), self._path)
        except PermissionError:
            raise Unavailable(f"you may not open {self._path}: use sudo dni ...") from None
        except TimeoutError:
            raise Unavailable(f"the dni agent at {self._path} took longer than {self._patience:g} s") from None
        except (OSError, http.client.HTTPException):
            raise Unavailable(
                f"the dni agent does not answer at {self._path}: start it with `dni up`, `systemctl start dni-agent` "
                f"or `docker plugin enable`"
            ) from None
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, patience: float, awaits: float) -> None:
        super().__init__("localhost")
        self._path = path
        self._patience = patience
        self._awaits = awaits

    def connect(self) -> None:
        ends = time.monotonic() + self._awaits
        while True:
            try:
                self._connect_once()
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() >= ends:
                    raise
                time.sleep(_LOOKS_EVERY)
            else:
                return

    def _connect_once(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._patience)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


def _written(body: Mapping[str, Any]) -> bytes:
    """Write JSON as it is typed, not as escapes: what is no UTF-8 is noticed here, and not by the agent."""
    return json.dumps(body, ensure_ascii=False).encode()


def _read(status: int, body: bytes, path: Path) -> Any:
    try:
        answer = json.loads(body)
    except ValueError:
        raise DniError(f"what answers at {path} is not the dni agent (status {status})") from None
    if status < HTTPStatus.BAD_REQUEST:
        return answer
    text = answer.get("error") if isinstance(answer, dict) else None
    raise _ERRORS.get(status, DniError)(text or f"the dni agent at {path} answered with status {status}")
