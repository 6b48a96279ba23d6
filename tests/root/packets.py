# SPDX-License-Identifier: Apache-2.0
"""Real packets: a server that tells who it thinks is calling, and a call to it."""

from __future__ import annotations

import socket
import threading
from typing import Self

from tests.root.ground import Namespace

PORT = 7
_PATIENCE = 15.0
_IMPATIENCE = 0.3
"""Seconds after which a call that must not get through is taken not to."""


class Server:
    """Answers each TCP connection in a namespace with the caller's address, on IPv4 and IPv6."""

    def __init__(self, namespace: Namespace, port: int = PORT) -> None:
        """Begin to serve."""
        self._socket = namespace.run(socket.create_server, ("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, (caller, *_) = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.sendall(caller.removeprefix("::ffff:").encode())

    def __enter__(self) -> Self:
        """Go on serving."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


def call(caller: Namespace, address: object, port: int = PORT) -> str | None:
    """Call a server; answer who it says we are, None where nobody answers."""
    return caller.run(_call, str(address), port, _PATIENCE)


def is_cut_off(caller: Namespace, address: object, port: int = PORT, patience: float = _IMPATIENCE) -> bool:
    """Tell that a call does not get through."""
    return caller.run(_call, str(address), port, patience) is None


def _call(address: str, port: int, patience: float) -> str | None:
    try:
        with socket.create_connection((address, port), timeout=patience) as connection:
            return connection.recv(64).decode()
    except OSError:
        return None
