# SPDX-License-Identifier: Apache-2.0
"""Connections that the kernel follows, as netfilter lists them (linux/netfilter/nfnetlink_conntrack.h).

Rules for addresses are asked once for each connection. UDP has no end of connection: a sender that keeps its port
would go on to where its first packet went, whatever was published since, and whoever has that address by then.

There may be hundreds of thousands. From Linux 5.8 on the kernel picks those that are asked for; what it lists besides
is passed over unread. Each question takes it some milliseconds, for it looks through its whole table.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import ip_address

import msgspec
import structlog

from dni_driver.core.overlays import FAMILIES, Address, Family
from dni_driver.core.ports import HostPort, Protocol
from dni_driver.kernel import addresses
from dni_driver.kernel.ledger import in_words
from dni_driver.kernel.netlink import conversation, nfnetlink, wire
from dni_driver.kernel.netlink.wire import attribute, attributes

_log = structlog.get_logger()

_SUBSYSTEM = 1
_GET, _DELETE = 1, 2
_DIRECTIONS = _ORIGINAL, _REPLY = 1, 2
"""Addresses and ports of the first packet, by which a connection is known, and of what answers it."""
_IP_PART, _PROTOCOL_PART = 1, 2
_SOURCE, _TARGET = {4: 1, 6: 3}, {4: 2, 6: 4}
_NUMBER, _TO_PORT = 1, 3
_UDP = attribute(_NUMBER, bytes([17]))
_FILTER = 25
_BY_SOURCE, _BY_NUMBER, _BY_TO_PORT = 1, 8, 32
"""Flags of a filter: what of a direction counts."""
_HEAD = 4
"""Bytes of an attribute before its value."""
_FLAGS = struct.Struct("=I")
_MOST_QUESTIONS = 2
"""Where there would be more, all connections of UDP are asked for."""
_HEADER = struct.Struct(">BBH")
_LARGEST = 1 << 16


class _Question(msgspec.Struct, frozen=True):
    """What connections of UDP are asked for by: attributes of one direction, its source or the port it is to."""

    direction: int = _ORIGINAL
    source: bytes = b""
    port: bytes = b""

    @property
    def mark(self) -> bytes:
        """Answer the attribute that each right answer has."""
        return self.source or self.port

    def body(self) -> bytes:
        """Answer the question as the kernel reads it."""
        flags = _BY_NUMBER | (_BY_SOURCE if self.source else 0) | (_BY_TO_PORT if self.port else 0)
        ip = attribute(_IP_PART | wire.NESTED, self.source) if self.source else b""
        protocol = attribute(_PROTOCOL_PART | wire.NESTED, _UDP + self.port)
        direction = attribute(self.direction | wire.NESTED, ip + protocol)
        return direction + attribute(_FILTER | wire.NESTED, attribute(self.direction, _FLAGS.pack(flags)))


class _Direction(msgspec.Struct, frozen=True):
    """Where packets of one direction come from and go to."""

    source: Address
    target: Address
    port: int


class _Connection(msgspec.Struct, frozen=True):
    """A connection of UDP: as the kernel knows it, and both its directions as they come in."""

    name: bytes
    original: _Direction
    reply: _Direction


def forget(ports: Collection[HostPort]) -> None:
    """Have the next packet to any of these ports of this host, of those that are UDP's, find its way anew.

    Those are also ports that a container or this host has sent from: who is answered there would go on to there.
    Others' connections to such a port elsewhere stay. What the kernel does not let go of ends in time.
    """
    with _as_far_as_it_goes():
        for family in FAMILIES:
            wanted = {at.port for at in ports if at.protocol is Protocol.UDP and at.family == family}
            if wanted:
                ends = [attribute(_TO_PORT, port.to_bytes(2, "big")) for port in wanted]
                asked = [_Question(direction, port=port) for port in ends for direction in _DIRECTIONS]
                _delete(family, asked, partial(_comes_in, wanted, _own()))


def forget_all_of(containers: Collection[Address]) -> None:
    """Have nobody answer these addresses over UDP by what was said from there; what the kernel keeps ends in time.

    What came in to them was let in by a published port, and ends with that.
    """
    with _as_far_as_it_goes():
        for family in FAMILIES:
            wanted = {address for address in containers if address.version == family}
            if wanted:
                ends = [attribute(_SOURCE[family], address.packed) for address in wanted]
                _delete(family, [_Question(source=source) for source in ends], partial(_is_of, wanted))


@contextmanager
def _as_far_as_it_goes() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _log.warning("senders of UDP keep their old way for half a minute", error=in_words(error))


def _own() -> set[Address]:
    """Answer this host's addresses."""
    with conversation.conversation() as kernel:
        return {interface.ip for _, interface in addresses.read(kernel)}


def _is_of(containers: Collection[Address], one: _Connection) -> bool:
    return one.original.source in containers


def _comes_in(ports: Collection[int], own: Collection[Address], one: _Connection) -> bool:
    """Tell whether either direction is to one of these ports of this host, or was until it was led elsewhere."""
    return any(
        to.port in ports and (to.target in own or to.target.is_loopback or to.target != back.source)
        for to, back in ((one.original, one.reply), (one.reply, one.original))
    )


def _delete(family: Family, asked: Sequence[_Question], is_meant: Callable[[_Connection], bool]) -> None:
    questions = asked if len(asked) <= _MOST_QUESTIONS else [_Question()]
    marks = {question.mark for question in asked}
    found = [one for question in questions for one in _listed(family, question, marks)]
    for name in {one.name for one in found if is_meant(one)}:
        # It may have ended meanwhile.
        with suppress(FileNotFoundError):
            _delete_one(family, name)


def _listed(family: Family, question: _Question, marks: Collection[bytes]) -> Iterator[_Connection]:
    with nfnetlink.conversation() as kernel:
        kernel.send(_message(_GET, wire.REQUEST | wire.DUMP, family, question.body()))
        for _, answer in nfnetlink.answers(kernel):
            connection = _read(family, answer) if _is_marked(answer, marks) else None
            if connection is not None:
                yield connection


def _is_marked(answer: bytes, marks: Collection[bytes]) -> bool:
    """Tell whether one of these attributes, which are of one kind, may be anywhere in an answer."""
    size, head = next((len(mark), mark[:_HEAD]) for mark in marks)
    at = answer.find(head)
    while at >= 0:
        if answer[at : at + size] in marks:
            return True
        at = answer.find(head, at + 1)
    return False


def _read(family: Family, answer: bytes) -> _Connection | None:
    """Read a connection; None where that is not UDP."""
    told = dict(attributes(answer))
    original, reply = _direction(family, told[_ORIGINAL]), _direction(family, told[_REPLY])
    return _Connection(told[_ORIGINAL], original, reply) if original and reply else None


def _direction(family: Family, told: bytes) -> _Direction | None:
    """Read one direction of a connection; None where that is not UDP."""
    parts = dict(attributes(told))
    ip, protocol = dict(attributes(parts[_IP_PART])), dict(attributes(parts[_PROTOCOL_PART]))
    if attribute(_NUMBER, protocol[_NUMBER]) != _UDP:
        return None
    return _Direction(
        ip_address(ip[_SOURCE[family]]), ip_address(ip[_TARGET[family]]), int.from_bytes(protocol[_TO_PORT], "big")
    )


def _delete_one(family: Family, name: bytes) -> None:
    with nfnetlink.conversation() as kernel:
        kernel.send(_message(_DELETE, wire.REQUEST | wire.ACK, family, attribute(_ORIGINAL | wire.NESTED, name)))
        list(wire.messages(kernel.recv(_LARGEST)))


def _message(kind: int, flags: int, family: Family, body: bytes) -> bytes:
    return wire.message(_SUBSYSTEM << 8 | kind, flags, _HEADER.pack(addresses.FAMILIES[family], 0, 0) + body)
