# SPDX-License-Identifier: Apache-2.0
"""Netlink messages as bytes (linux/netlink.h), for the few things that pyroute2 does not do, or not fast enough."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

REQUEST, ACK, EXCLUSIVE, DUMP, CREATE = 0x1, 0x4, 0x200, 0x300, 0x400
"""Flags of a request."""
INTERRUPTED = 0x10
"""Flag of an answer that is not whole: what is listed changed meanwhile."""
ERROR, DONE = 2, 3
"""Kinds of message that every family has. Each says with an error number how it went, 0 is an acknowledgement."""
NESTED = 0x8000

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=i")
_KIND = 0x3FFF


def message(kind: int, flags: int, body: bytes) -> bytes:
    """Answer a message."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Answer kind, flags and body of each message in a datagram; raise as OSError what the kernel refuses."""
    at = 0
    while at < len(data):
        length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
        body = data[at + _HEADER.size : at + length]
        if kind in (ERROR, DONE) and (number := -_NUMBER.unpack_from(body)[0]):
            raise OSError(number, os.strerror(number))
        yield kind, flags, body
        at += _padded(length)


def attribute(kind: int, value: bytes) -> bytes:
    """Answer an attribute, which may hold others."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value.ljust(_padded(length) - _ATTRIBUTE.size, b"\0")


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Answer kind and value of each attribute in a body or in another attribute."""
    at = 0
    while at < len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind & _KIND, data[at + _ATTRIBUTE.size : at + length]
        at += _padded(length)


def text(value: str) -> bytes:
    """Answer a text as the kernel ends it."""
    return value.encode() + b"\0"


def _padded(length: int) -> int:
    return (length + 3) & ~3
