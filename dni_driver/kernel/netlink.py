# SPDX-License-Identifier: Apache-2.0
"""A conversation with the kernel over netlink: requests with their answers, and attributes as bytes.

Written here because a container start pays for it: a socket of its own for each conversation (no sharing
between threads, nothing left open, a deadline on each wait), many requests in one system call, and dumps of
which only what is asked for is decoded. Errors are OSError with the kernel's own words where it gives any.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec

from dni_driver.core.deadline import within

ROUTE = socket.NETLINK_ROUTE
NETFILTER = 12

REQUEST = 0x001
ACK = 0x004
DUMP = 0x300
REPLACE = 0x100
EXCLUSIVE = 0x200
CREATE = 0x400

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR, _DONE = 2, 3
_INTERRUPTED = 0x10
_CAPPED, _EXPLAINED = 0x100, 0x200
_EXPLANATION = 1
_NESTED = 0x8000
_TYPE_BITS = 0x3FFF
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_BUFFER = 1 << 16
_BATCH = 64
"""Requests in one system call: their acknowledgements must fit the socket's receive buffer."""
_ABSENT = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.ENXIO, errno.ENETUNREACH, errno.EHOSTUNREACH})
_DUMP_TRIES = 5
_PATIENCE = 5.0


class Message(msgspec.Struct, frozen=True):
    """A request: its type, its flags beyond REQUEST, and its body (the family's header and attributes)."""

    kind: int
    flags: int
    body: bytes


class Answer(msgspec.Struct, frozen=True):
    """One message from the kernel."""

    kind: int
    body: bytes

    def attributes(self, header: int) -> dict[int, bytes]:
        """Answer the attributes that follow a family header of so many bytes."""
        return unpack(self.body, header)


class Netlink:
    """One netlink socket in the calling thread's network namespace; for one thread at a time."""

    def __init__(self, protocol: int = ROUTE) -> None:
        """Open the socket."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        """Begin the conversation."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and close the socket."""
        self._socket.close()

    def ask(self, *messages: Message) -> None:
        """Have the kernel do each of the requests; raise the first OSError when all were tried."""
        for error in self.attempt(*messages):
            if error is not None:
                raise error

    def attempt(self, *messages: Message) -> list[OSError | None]:
        """Have the kernel do each of the requests; answer the error of each, in their order."""
        return [error for batch in _batches(messages) for error in self._attempt(batch)]

    def get(self, message: Message) -> Answer | None:
        """Ask for one object; None where there is none of that description."""
        first = self._send([message])
        for answer in self._receive(first):
            error = _error_of(answer)
            if error is None:
                return answer
            if error.errno in _ABSENT:
                return None
            raise error
        return None

    def dump(self, kind: int, body: bytes) -> list[Answer]:
        """Ask for all objects of a kind, once more when they changed meanwhile."""
        for _ in range(_DUMP_TRIES):
            answers, whole = self._dump(kind, body)
            if whole:
                break
        return answers

    def _attempt(self, messages: Sequence[Message]) -> list[OSError | None]:
        first = self._send([Message(m.kind, m.flags | ACK, m.body) for m in messages])
        outcome: list[OSError | None] = []
        while len(outcome) < len(messages):
            outcome += [_error_of(answer) for answer in self._receive(first) if answer.kind == _ERROR]
        return outcome

    def _dump(self, kind: int, body: bytes) -> tuple[list[Answer], bool]:
        first = self._send([Message(kind, DUMP, body)])
        answers: list[Answer] = []
        whole = True
        while True:
            for flags, answer in self._messages(first):
                whole = whole and not flags & _INTERRUPTED
                error = _error_of(answer)
                if error is not None:
                    raise error
                if answer.kind == _DONE:
                    return answers, whole
                answers.append(answer)

    def _send(self, messages: Sequence[Message]) -> int:
        first = self._sequence + 1
        self._socket.settimeout(within(_PATIENCE))
        self._socket.send(b"".join(self._framed(message) for message in messages))
        return first

    def _framed(self, message: Message) -> bytes:
        self._sequence += 1
        size = _HEADER.size + len(message.body)
        head = _HEADER.pack(size, message.kind, message.flags | REQUEST, self._sequence, 0)
        return head + message.body + bytes(-size % 4)

    def _receive(self, first: int) -> Iterator[Answer]:
        return (answer for _, answer in self._messages(first))

    def _messages(self, first: int) -> Iterator[tuple[int, Answer]]:
        """Read one datagram; leave out what belongs to earlier requests."""
        data = self._socket.recv(_BUFFER)
        offset = 0
        while offset + _HEADER.size <= len(data):
            size, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            if sequence >= first:
                body = data[offset + _HEADER.size : offset + size]
                yield flags, Answer(kind, body if kind != _ERROR else _with_flags(flags, body))
            offset += size + (-size % 4)


def _batches(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    for start in range(0, len(messages), _BATCH):
        yield messages[start : start + _BATCH]


def _with_flags(flags: int, body: bytes) -> bytes:
    return struct.pack("=H", flags) + body


def _error_of(answer: Answer) -> OSError | None:
    """Answer the error an acknowledgement carries: flags, a negative number, the request, an explanation."""
    if answer.kind != _ERROR:
        return None
    flags, number = struct.unpack_from("=Hi", answer.body)
    if number == 0:
        return None
    return OSError(-number, _explanation(flags, answer.body) or os.strerror(-number))


def _explanation(flags: int, body: bytes) -> str:
    if not flags & _EXPLAINED:
        return ""
    start = 2 + 4
    (size,) = struct.unpack_from("=I", body, start)
    start += _HEADER.size if flags & _CAPPED else size + (-size % 4)
    return unpack(body, start).get(_EXPLANATION, b"").rstrip(b"\0").decode(errors="replace")


def raw(kind: int, payload: bytes) -> bytes:
    """Pack an attribute of any bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def text(kind: int, value: str) -> bytes:
    """Pack an attribute that is a name."""
    return raw(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """Pack an attribute of 32 bits."""
    return raw(kind, struct.pack("=I", value))


def octet(kind: int, value: int) -> bytes:
    """Pack an attribute of 8 bits."""
    return raw(kind, struct.pack("=B", value))


def nest(kind: int, *attributes: bytes) -> bytes:
    """Pack an attribute made of attributes."""
    return raw(kind | _NESTED, b"".join(attributes))


def unpack(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Answer the attributes from an offset to the end of the data."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_BITS] = data[offset + 4 : offset + size]
        offset += size + (-size % 4)
    return found


def as_number(attributes: Mapping[int, bytes], kind: int, default: int = 0) -> int:
    """Read an unsigned attribute of any width in the machine's byte order."""
    value = attributes.get(kind)
    return default if value is None else int.from_bytes(value, "little" if _LITTLE else "big")


def as_text(attributes: Mapping[int, bytes], kind: int) -> str:
    """Read a name; empty where there is none."""
    return attributes.get(kind, b"").rstrip(b"\0").decode(errors="replace")


_LITTLE = struct.pack("=H", 1) == b"\1\0"
