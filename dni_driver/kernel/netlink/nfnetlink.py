# SPDX-License-Identifier: Apache-2.0
"""Elements of nftables sets, and what a table looks like, straight from the kernel and back (linux/nf_tables.h).

A container start waits for its elements: nft would need a process of its own for them, some 20 ms, and this needs
a twentieth of one. pyroute2 reads no more of a set than the first message, and changes one set at a time.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from dni_driver.core.deadline import within
from dni_driver.kernel.netlink import wire
from dni_driver.kernel.netlink.wire import attribute, attributes

_PATIENCE = 5.0
_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_GET_TABLE, _GET_CHAIN, _GET_RULE, _GET_SET = 1, 4, 7, 10
_NEW_ELEMENTS, _GET_ELEMENTS, _DELETE_ELEMENTS = 12, 13, 14
_GET_GENERATION = 16

_TABLE_NAME, _SET_NAME, _ELEMENTS = 1, 2, 3
_ONLY, _DATA = 1, 2
"""Attributes of an element: its key, and what a map has for it. A key has one attribute, its value, as data has."""
_SHAPE_OF_SET = frozenset({2, 3, 4, 5})
"""Name, flags, key type and key length; what else there is tells of the elements."""

_FAMILY = struct.Struct(">BBH")
_LARGEST = 1 << 16
_TRIES = 5
_AT_ONCE = 512
"""Elements in one transaction: a list of them holds 64 KiB at the most, a transaction 200."""

Elements = Mapping[str, frozenset[bytes]]
"""The keys of sets, by the name of the set."""


class _Own(threading.local):
    """What a thread has done."""

    transactions = 0


_own = _Own()


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """An nftables table: `family` as the kernel counts them (7 is bridge)."""

    family: int
    name: str


def generation() -> int | None:
    """Answer how often nftables was changed in this namespace; None where the kernel has none."""
    try:
        answer = _got(_GET_GENERATION, 0, b"")
    except OSError:
        return None
    return int.from_bytes(dict(attributes(answer))[_ONLY], "big")


def transactions() -> int:
    """Answer how many of these changes were this thread's own, of those made here."""
    return _own.transactions


def elements(table: Table, sets: Iterable[str]) -> Elements:
    """Read the keys of some sets; raise FileNotFoundError where the table or one of them is missing."""
    return {name: frozenset(_keys(table, name)) for name in sets}


def _keys(table: Table, name: str) -> Iterator[bytes]:
    return (_value(found[_ONLY]) for found in _read(table, name))


def pairs(table: Table, name: str) -> frozenset[tuple[bytes, bytes]]:
    """Read the elements of a map, each a key and its data; raise FileNotFoundError where there is no such map."""
    return frozenset((_value(found[_ONLY]), _value(found[_DATA])) for found in _read(table, name))


def _read(table: Table, name: str) -> Iterator[dict[int, bytes]]:
    for answer in _dumped(_GET_ELEMENTS, table.family, _named(table, name)):
        for _, element in attributes(dict(attributes(answer)).get(_ELEMENTS, b"")):
            yield dict(attributes(element))


def _value(nested: bytes) -> bytes:
    return dict(attributes(nested))[_ONLY]


def structure(table: Table) -> bytes | None:
    """Answer bytes that change with a table's chains, rules and sets, but not with elements; None without a table."""
    whose = attribute(_TABLE_NAME, wire.text(table.name))
    try:
        parts = [_got(_GET_TABLE, table.family, whose)]
    except FileNotFoundError:
        return None
    for kind in (_GET_CHAIN, _GET_RULE):
        parts += _of(table, kind)
    for answer in _of(table, _GET_SET):
        parts += [value for number, value in attributes(answer) if number in _SHAPE_OF_SET]
    return b"\0".join(parts)


def _of(table: Table, kind: int) -> list[bytes]:
    """Answer what belongs to a table: not every kernel leaves out the rest by itself."""
    name = wire.text(table.name)
    answers = _dumped(kind, table.family, attribute(_TABLE_NAME, name))
    return [answer for answer in answers if dict(attributes(answer)).get(_TABLE_NAME) == name]


def add(table: Table, keys: Elements) -> None:
    """Add elements; those that are there already do no harm. Raises OSError: FileNotFoundError without the table."""
    for portion in _portions(keys):
        _transact([_change(_NEW_ELEMENTS, wire.CREATE, table, *of_set) for of_set in portion])


def remove(table: Table, keys: Elements) -> None:
    """Remove elements; raise FileNotFoundError where one of them is not there."""
    for portion in _portions(keys):
        _transact([_change(_DELETE_ELEMENTS, 0, table, *of_set) for of_set in portion])


def _portions(keys: Elements) -> Iterator[list[tuple[str, list[bytes]]]]:
    """Cut elements into as many as fit one transaction, by set."""
    all_of_them = [(name, key) for name, listed in keys.items() for key in sorted(listed)]
    for start in range(0, len(all_of_them), _AT_ONCE):
        portion: dict[str, list[bytes]] = {}
        for name, key in all_of_them[start : start + _AT_ONCE]:
            portion.setdefault(name, []).append(key)
        yield list(portion.items())


def _change(kind: int, flags: int, table: Table, name: str, keys: Iterable[bytes]) -> bytes:
    listed = attribute(_ELEMENTS | wire.NESTED, b"".join(map(_element, keys)))
    return _message(kind, wire.REQUEST | wire.ACK | flags, table.family, _named(table, name) + listed)


def _element(key: bytes) -> bytes:
    return attribute(_ONLY | wire.NESTED, attribute(_ONLY | wire.NESTED, attribute(_ONLY, key)))


def _named(table: Table, name: str) -> bytes:
    return attribute(_TABLE_NAME, wire.text(table.name)) + attribute(_SET_NAME, wire.text(name))


def _message(kind: int, flags: int, family: int, body: bytes) -> bytes:
    return wire.message(_SUBSYSTEM << 8 | kind, flags, _FAMILY.pack(family, 0, 0) + body)


def _transact(changes: Sequence[bytes]) -> None:
    """Have all of the changes made, or none."""
    begin, end = (
        wire.message(kind, wire.REQUEST, _FAMILY.pack(0, 0, _SUBSYSTEM)) for kind in (_BATCH_BEGIN, _BATCH_END)
    )
    with conversation() as kernel:
        kernel.send(b"".join([begin, *changes, end]))
        acknowledged = 0
        while acknowledged < len(changes):
            acknowledged += len(list(wire.messages(kernel.recv(_LARGEST))))
    _own.transactions += 1


def _got(kind: int, family: int, body: bytes) -> bytes:
    """Answer the attributes of one object."""
    with conversation() as kernel:
        kernel.send(_message(kind, wire.REQUEST, family, body))
        return next(answers(kernel))[1]


def _dumped(kind: int, family: int, body: bytes) -> list[bytes]:
    """Answer the attributes of all objects of a kind; asked again where they changed meanwhile."""
    for _ in range(_TRIES):
        answers, is_whole = _dumped_once(_message(kind, wire.REQUEST | wire.DUMP, family, body))
        if is_whole:
            break
    return answers


def _dumped_once(request: bytes) -> tuple[list[bytes], bool]:
    found: list[bytes] = []
    interrupted = 0
    with conversation() as kernel:
        kernel.send(request)
        for flags, answer in answers(kernel):
            interrupted |= flags & wire.INTERRUPTED
            found.append(answer)
    return found, not interrupted


def answers(kernel: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Answer flags and attributes of each answer, as they come, until the kernel says that it is done."""
    while True:
        for kind, flags, body in wire.messages(kernel.recv(_LARGEST)):
            if kind == wire.DONE:
                return
            yield flags, body[_FAMILY.size :]


def conversation() -> socket.socket:
    """Open a socket to talk with netfilter by; whoever asks for it closes it."""
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    kernel.settimeout(within(_PATIENCE))
    kernel.bind((0, 0))
    return kernel
