# SPDX-License-Identifier: Apache-2.0
"""Asks a Mesos agent's overlay module over HTTP, or over HTTPS."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path

import msgspec

from dni_driver.core.deadline import within
from dni_driver.core.errors import SettingsError, Unavailable
from dni_driver.core.mesos import dcos
from dni_driver.core.mesos.address import MesosAddress
from dni_driver.registry import tls
from dni_driver.registry.access import Access
from dni_driver.registry.in_time import answer_in_time

ENDPOINT = "/overlay-agent/overlay"
PATIENCE = 5.0
"""Seconds for the whole of an answer, however slowly it comes."""

LARGEST_ANSWER = 4 << 20
_PORTION = 1 << 16


class MesosAgent:
    """One agent, asked on a connection of its own each time."""

    def __init__(self, address: MesosAddress, access: Access = Access(), patience: float = PATIENCE) -> None:  # noqa: B008 - frozen
        """Ask nothing yet."""
        self._address = address
        self._access = access
        self._patience = patience
        self._tls = tls.KeptContext(access)
        self._place = f"the Mesos agent at http{'s' if access.tls else ''}://{address.host}:{address.port}"

    def ask(self) -> dcos.Agent:
        """Answer what the overlay module says; raise Unavailable, SettingsError for a file that cannot be used."""
        status, body = self._get(self._headers())
        if status != HTTPStatus.OK:
            raise self._unavailable(_explained(status))
        try:
            return msgspec.json.decode(body, type=dcos.Agent)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._unavailable(f"answers what no overlay module does: {error}") from None

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if self._access.token_file is not None:
            headers["Authorization"] = f"token={_read_token(self._access.token_file)}"
        return headers

    def _get(self, headers: dict[str, str]) -> tuple[int, bytes]:
        ends = time.monotonic() + within(self._patience)
        with self._in_words(), closing(self._connection()) as connection:
            connection.request("GET", ENDPOINT, headers=headers)
            with closing(answer_in_time(connection.sock, ends)) as response:
                response.begin()
                return response.status, self._read(response)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Turn what can go wrong on the way into Unavailable."""
        try:
            yield
        except TimeoutError:
            raise self._unavailable(f"took longer than {self._patience:g} s to answer") from None
        except ssl.SSLError as error:
            raise self._unavailable(tls.explained(error)) from None
        except ConnectionResetError:
            raise self._unavailable(f"hangs up{self._perhaps_tls()}") from None
        except OSError as error:
            raise self._unavailable(f"does not answer: {error.strerror or error}") from None
        except http.client.HTTPException as error:
            raise self._unavailable(f"does not speak HTTP: {type(error).__name__}{self._perhaps_tls()}") from None

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(f"{self._place} {what}")

    def _perhaps_tls(self) -> str:
        return "" if self._access.tls else ": where it speaks TLS, set registry.tls = true"

    def _connection(self) -> http.client.HTTPConnection:
        host, port, patience = self._address.host, self._address.port, within(self._patience)
        if self._access.tls:
            return http.client.HTTPSConnection(host, port, timeout=patience, context=self._tls.get())
        return http.client.HTTPConnection(host, port, timeout=patience)

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        body = bytearray()
        while portion := response.read1(_PORTION):
            body += portion
            if len(body) > LARGEST_ANSWER:
                raise self._unavailable(f"answers more than {LARGEST_ANSWER >> 20} MiB")
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
