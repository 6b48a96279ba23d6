# SPDX-License-Identifier: Apache-2.0
"""How a connection to a ZooKeeper server is made, when it is given up, and what is said where there is none."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Collection
from contextlib import ExitStack
from time import monotonic
from typing import Any

from kazoo.handlers.threading import SequentialThreadingHandler

from dni_driver.core.errors import SettingsError
from dni_driver.registry import tls
from dni_driver.registry.access import Access


class Connecting(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """What kazoo makes connections with, and waits for them.

    `trouble` names the server that TLS has foundered on, and why, until a connection is made. kazoo by itself
    believes all authorities of the machine beside the one that is named, and tells nobody why it did not believe a
    server. And it takes each question for a sign of life: one that is asked something every few seconds, and says
    nothing, it never gives up.
    """

    def __init__(self, access: Access, silence: float) -> None:
        """Connect to nobody yet; a server is given up that has said nothing for `silence` seconds."""
        super().__init__()
        self._access = access
        self._silence = silence
        self._connection: Any = None
        self._heard = 0.0
        self.trouble: str | None = None

    def create_connection(
        self, address: tuple[str, int], hostname: str | None = None, timeout: float | None = None, **_: object
    ) -> Any:
        """Connect to an address; over TLS somebody must be there who is called `hostname`; raise OSError."""
        try:
            self._connection = self._connected(address, hostname, timeout)
        except ssl.SSLError as error:
            self.trouble = f"{hostname}:{address[1]} {tls.explained(error)}"
            raise
        except SettingsError as error:
            self.trouble = f"{hostname}:{address[1]} cannot be asked: {error}"
            raise ConnectionError(str(error)) from error
        self.trouble = None
        self._heard = monotonic()
        return self._connection

    def select(
        self, reading: Collection[Any], writing: Collection[Any], failing: Collection[Any], timeout: float
    ) -> Any:
        """Wait for connections; raise TimeoutError where the server has said nothing for too long."""
        ready = super().select(reading, writing, failing, timeout)
        if self._connection in ready[0]:
            self._heard = monotonic()
        elif self._connection in reading and monotonic() - self._heard > self._silence:
            raise TimeoutError(f"the server has said nothing for {self._silence:.0f} s")
        return ready

    def _connected(self, address: tuple[str, int], hostname: str | None, timeout: float | None) -> socket.socket:
        with ExitStack() as undo:
            plain = undo.enter_context(socket.create_connection(address, timeout))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wanted = (
                tls.context(self._access).wrap_socket(plain, server_hostname=hostname) if self._access.tls else plain
            )
            undo.pop_all()
        return wanted
