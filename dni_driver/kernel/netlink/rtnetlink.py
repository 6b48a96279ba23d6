# SPDX-License-Identifier: Apache-2.0
"""What a container's start and end wait for, told to the kernel in one go (linux/rtnetlink.h, linux/if_link.h).

pyroute2 takes several times as long over these few messages as the kernel does. It is there for everything else, and
says in words what the kernel did not like about these.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence

from dni_driver.core.deadline import within
from dni_driver.core.wanted import Link
from dni_driver.kernel.netlink import wire
from dni_driver.kernel.netlink.wire import attribute

_PATIENCE = 5.0
_NEW_LINK, _DELETE_LINK, _SET_LINK = 16, 17, 19
_ADDRESS, _NAME, _MTU, _MASTER, _INFO, _BY_FAMILY, _GROUP = 1, 3, 4, 10, 18, 26, 27
_KIND, _DATA, _PORT_KIND, _PORT_DATA = 1, 2, 4, 5
_PEER = 1
_HAIRPIN = 4
_ADDRESSES_FROM = 8
_NONE = 1
_UP = 1

HEAD = struct.Struct("=BxHiII")
"""Of a message about a link: family, type, index, flags, and which of the flags are meant."""
_NUMBER = struct.Struct("=I")
LARGEST = 1 << 16
"""In bytes, of what the kernel answers at once."""
_AT_ONCE = 64
"""Messages in one go: the kernel has room for some 200 answers."""


def make(link: Link, bridge: int) -> None:
    """Make a link's pair on a bridge, by its index, with hairpin and no IPv6 address, and set its host end up.

    Raises OSError where any of that is refused, because there is such a link already, for one.
    """
    for refused in _told([_creation(link, bridge), _start(link)]):
        if refused is not None:
            raise refused


def delete(names: Sequence[str], group: int) -> None:
    """Delete links by way of a device group, in the time of one; those that are gone are no error. Raises OSError."""
    doomed = [_message(_SET_LINK, named(name) + _number(_GROUP, group)) for name in names]
    ends = _message(_DELETE_LINK, _number(_GROUP, group))
    for refused in (*_told(doomed), *_told([ends])):
        if refused is not None and refused.errno not in (errno.ENODEV, errno.ESRCH):
            raise refused


def opened() -> socket.socket:
    """Answer a way to the kernel, which waits for each answer for some seconds; raise OSError, DeadlineExceeded."""
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    kernel.settimeout(within(_PATIENCE))
    return kernel


def named(name: str) -> bytes:
    """Answer the attribute that tells which link."""
    return attribute(_NAME, wire.text(name))


def _creation(link: Link, bridge: int) -> bytes:
    """Answer what makes a pair, its host end a port of the bridge."""
    peer = HEAD.pack(0, 0, 0, 0, 0) + named(link.container) + _number(_MTU, link.mtu) + _mac(link.mac)
    info = attribute(_KIND, b"veth") + attribute(_DATA, attribute(_PEER, peer))
    body = named(link.host) + _number(_MTU, link.mtu) + attribute(_INFO, info) + _number(_MASTER, bridge)
    return _message(_NEW_LINK, body, wire.CREATE | wire.EXCLUSIVE)


def _start(link: Link) -> bytes:
    """Answer what sets a host end up: a port that sends back where frames came from, with no address of its own."""
    port = attribute(_PORT_KIND, b"bridge") + attribute(_PORT_DATA, attribute(_HAIRPIN, b"\1"))
    addresses = attribute(socket.AF_INET6, attribute(_ADDRESSES_FROM, bytes([_NONE])))
    body = named(link.host) + attribute(_INFO, port) + attribute(_BY_FAMILY, addresses)
    return _message(_NEW_LINK, body, head=HEAD.pack(0, 0, 0, _UP, _UP))


def _mac(mac: str) -> bytes:
    return attribute(_ADDRESS, bytes.fromhex(mac.replace(":", "")))


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, _NUMBER.pack(value))


def _message(kind: int, body: bytes, flags: int = 0, head: bytes = bytes(HEAD.size)) -> bytes:
    return wire.message(kind, wire.REQUEST | wire.ACK | flags, head + body)


def _told(changes: Sequence[bytes]) -> list[OSError | None]:
    """Tell the kernel all of it, whatever becomes of each; answer what it refused."""
    with opened() as kernel:
        answers: list[OSError | None] = []
        for start in range(0, len(changes), _AT_ONCE):
            portion = changes[start : start + _AT_ONCE]
            kernel.send(b"".join(portion))
            answers += [_acknowledged(kernel.recv(LARGEST)) for _ in portion]
        return answers


def _acknowledged(answer: bytes) -> OSError | None:
    try:
        list(wire.messages(answer))
    except OSError as refused:
        return refused
    return None
