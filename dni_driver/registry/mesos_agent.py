# SPDX-License-Identifier: Apache-2.0
"""Asks a Mesos agent's overlay module over HTTP."""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import closing
from http import HTTPStatus
from pathlib import Path

import msgspec

from dni_driver.core.deadline import within
from dni_driver.core.errors import SettingsError, Unavailable
from dni_driver.core.mesos import dcos
from dni_driver.core.mesos.address import MesosAddress

ENDPOINT = "/overlay-agent/overlay"
PATIENCE = 5.0
"""Seconds for the whole of an answer, however slowly it comes."""

LARGEST_ANSWER = 4 << 20
_PORTION = 1 << 16


class MesosAgent:
    """One agent, asked on a connection of its own each time. `token_file` holds what it wants to see, if anything."""

    def __init__(self, address: MesosAddress, token_file: Path | None = None, patience: float = PATIENCE) -> None:
        """Ask nothing yet."""
        self._address = address
        self._token_file = token_file
        self._patience = patience
        self._place = f"the Mesos agent at http://{address.host}:{address.port}"

    def ask(self) -> dcos.Agent:
        """Answer what the overlay module says; raise Unavailable, SettingsError for a token that cannot be read."""
        status, body = self._get(self._headers())
        if status != HTTPStatus.OK:
            raise Unavailable(f"{self._place} {_explained(status)}")
        try:
            return msgspec.json.decode(body, type=dcos.Agent)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unavailable(f"{self._place} answers what no overlay module does: {error}") from None

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if self._token_file is not None:
            headers["Authorization"] = f"token={_read_token(self._token_file)}"
        return headers

    def _get(self, headers: dict[str, str]) -> tuple[int, bytes]:
        ends = time.monotonic() + within(self._patience)
        connection = http.client.HTTPConnection(
            self._address.host, self._address.port, timeout=within(self._patience)
        )
        try:
            connection.request("GET", ENDPOINT, headers=headers)
            connected = connection.sock
            with closing(connection.getresponse()) as response:
                return response.status, self._read(response, connected, ends)
        except TimeoutError:
            raise Unavailable(f"{self._place} took longer than {self._patience:g} s to answer") from None
        except OSError as error:
            raise Unavailable(f"{self._place} does not answer: {error.strerror or error}") from None
        except http.client.HTTPException as error:
            raise Unavailable(f"{self._place} does not speak HTTP: {type(error).__name__}") from None
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse, connected: socket.socket, ends: float) -> bytes:
        """Read a body, piece by piece, as each has a time of its own and all together have no more."""
        body = bytearray()
        while portion := response.read1(_PORTION):
            body += portion
            left = ends - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if len(body) > LARGEST_ANSWER:
                raise Unavailable(f"{self._place} answers more than {LARGEST_ANSWER >> 20} MiB")
            connected.settimeout(left)
        return bytes(body)


def _explained(status: int) -> str:
    """Say what a status means here."""
    match status:
        case HTTPStatus.NOT_FOUND:
            return f"has no overlay module: there is no {ENDPOINT}"
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return f"does not let dni look (status {status}): registry.token_file names the file with a token"
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return "is not ready yet (status 503): dni asks again"
    return f"answers with status {status}"


def _read_token(path: Path) -> str:
    """Answer the token of now: who renews it writes it anew."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError(f'registry.token_file = "{path}": cannot be read: {error.strerror}') from None
    except ValueError:
        token = ""
    if not token or not token.isprintable():
        raise SettingsError(f'registry.token_file = "{path}": must hold one line, the token')
    return token
