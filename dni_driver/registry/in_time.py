# SPDX-License-Identifier: Apache-2.0
"""HTTP answers that have to be complete in time: the timeout of a socket is one for each piece of them."""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPResponse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class _InTime(io.RawIOBase):
    """What comes by a connection until a moment of the monotonic clock: all of it together has no longer."""

    def __init__(self, connected: socket.socket, ends: float) -> None:
        self._connected = connected
        self._ends = ends

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connected.settimeout(left)
        return self._connected.recv_into(buffer)


def answer_in_time(connected: socket.socket, ends: float) -> HTTPResponse:
    """Answer what reads an HTTP answer, from its status on, until then; raises TimeoutError."""
    response = HTTPResponse(connected, method="GET")
    response.fp.close()
    response.fp = io.BufferedReader(_InTime(connected, ends))
    return response
