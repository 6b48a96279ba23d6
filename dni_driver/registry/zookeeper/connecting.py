# SPDX-License-Identifier: Apache-2.0
"""How a connection to a ZooKeeper server is made over TLS, and what is said where none is."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from typing import Any

from kazoo.handlers.threading import SequentialThreadingHandler

from dni_driver.core.errors import SettingsError
from dni_driver.registry import tls
from dni_driver.registry.access import Access


class Connecting(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """What kazoo makes connections with.

    `trouble` names the server that TLS has foundered on, and why, until a connection is made. kazoo by itself
    believes all authorities of the machine beside the one that is named, and tells nobody why it did not believe a
    server.
    """

    def __init__(self, access: Access) -> None:
        """Connect to nobody yet."""
        super().__init__()
        self._access = access
        self.trouble: str | None = None

    def create_connection(
        self, address: tuple[str, int], hostname: str | None = None, timeout: float | None = None, **_: object
    ) -> Any:
        """Connect to an address, where somebody must be who is called `hostname`; raise OSError."""
        try:
            connection = _secured(address, hostname, timeout, tls.context(self._access))
        except ssl.SSLError as error:
            self.trouble = f"{hostname}:{address[1]} {tls.explained(error)}"
            raise
        except SettingsError as error:
            self.trouble = f"{hostname}:{address[1]} cannot be asked: {error}"
            raise ConnectionError(str(error)) from error
        self.trouble = None
        return connection


def _secured(
    address: tuple[str, int], hostname: str | None, timeout: float | None, context: ssl.SSLContext
) -> ssl.SSLSocket:
    with ExitStack() as undo:
        plain = undo.enter_context(socket.create_connection(address, timeout))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = context.wrap_socket(plain, server_hostname=hostname)
        undo.pop_all()
    return connection
