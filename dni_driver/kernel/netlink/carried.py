# SPDX-License-Identifier: Apache-2.0
"""What addresses one link carries: one question, however many other links there are (linux/if_addr.h)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address

from dni_driver.kernel.netlink import wire
from dni_driver.kernel.netlink.rtnetlink import LARGEST, opened

_GET_ADDRESS = 22
_ADDRESS, _LOCAL = 1, 2
_HEAD = struct.Struct("=BBBBI")
"""Of a message about an address: family, length of its network, flags, scope, index of its link."""
_NETLINK, _STRICT = 270, 12


def carried_by(name: str) -> set[str] | None:
    """Answer the addresses of a link; None where there is no such link. Raises OSError, DeadlineExceeded."""
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return None
    try:
        return set(_listed(index))
    except OSError as refused:
        if refused.errno == errno.ENODEV:
            return None
        raise


def _listed(index: int) -> Iterator[str]:
    """List the addresses of a link; a kernel older than 4.20 tells those of all."""
    with opened() as kernel:
        with suppress(OSError):
            kernel.setsockopt(_NETLINK, _STRICT, 1)
        kernel.send(wire.message(_GET_ADDRESS, wire.REQUEST | wire.DUMP, _HEAD.pack(0, 0, 0, 0, index)))
        for body in _answers(kernel):
            if _HEAD.unpack_from(body)[-1] == index:
                said = dict(wire.attributes(body[_HEAD.size :]))
                yield str(ip_address(said.get(_LOCAL) or said[_ADDRESS]))


def _answers(kernel: socket.socket) -> Iterator[bytes]:
    while True:
        for kind, _, body in wire.messages(kernel.recv(LARGEST)):
            if kind == wire.DONE:
                return
            yield body
