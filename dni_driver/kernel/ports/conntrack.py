# SPDX-License-Identifier: Apache-2.0
"""Connections that the kernel follows, as netfilter lists them (linux/netfilter/nfnetlink_conntrack.h).

Rules for addresses are asked once for each connection. UDP has no end of connection: a sender that keeps its port
would go on to where its first packet went, whatever was published since.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from contextlib import suppress

from dni_driver.core.ports import HostPort, Protocol
from dni_driver.kernel.netlink import nfnetlink, wire
from dni_driver.kernel.netlink.wire import attribute, attributes

_SUBSYSTEM = 1
_GET, _DELETE = 1, 2
_ORIGINAL = 1
"""The first packet's addresses and ports, by which a connection is known."""
_PROTOCOL_PART = 2
_NUMBER, _TO_PORT = 1, 3
_UDP = 17
_FAMILIES = {4: 2, 6: 10}
_HEADER = struct.Struct(">BBH")
_LARGEST = 1 << 16


def forget(ports: Collection[HostPort]) -> None:
    """Have the next packet to any of these ports, of those that are UDP's, find its way anew; raise OSError."""
    for family in _FAMILIES:
        wanted = {at.port for at in ports if at.protocol is Protocol.UDP and at.family == family}
        for connection in list(_to(family, wanted)) if wanted else ():
            # It may have ended meanwhile.
            with suppress(FileNotFoundError):
                _delete(family, connection)


def _to(family: int, ports: Collection[int]) -> Iterator[bytes]:
    with nfnetlink.conversation() as kernel:
        kernel.send(_message(_GET, wire.REQUEST | wire.DUMP, family, b""))
        for _, answer in nfnetlink.answers(kernel):
            original = dict(attributes(answer))[_ORIGINAL]
            protocol = dict(attributes(dict(attributes(original))[_PROTOCOL_PART]))
            if protocol[_NUMBER][0] == _UDP and int.from_bytes(protocol[_TO_PORT], "big") in ports:
                yield original


def _delete(family: int, original: bytes) -> None:
    with nfnetlink.conversation() as kernel:
        body = attribute(_ORIGINAL | wire.NESTED, original)
        kernel.send(_message(_DELETE, wire.REQUEST | wire.ACK, family, body))
        list(wire.messages(kernel.recv(_LARGEST)))


def _message(kind: int, flags: int, family: int, body: bytes) -> bytes:
    return wire.message(_SUBSYSTEM << 8 | kind, flags, _HEADER.pack(_FAMILIES[family], 0, 0) + body)
