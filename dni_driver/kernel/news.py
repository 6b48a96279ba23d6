# SPDX-License-Identifier: Apache-2.0
"""News that should not wait for the next look.

A link came or went, or has another MTU; the VTEP went down; a route of ours, or to what is on a link, was deleted.

A new bridge of Docker's is open to overlays until the firewall knows of it, and containers send too large packets
until they have the MTU of an underlay that has shrunk. The links of containers come and go by the hundred and are
no news: their names tell, before anything else is read.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator

from pyroute2.netlink.rtnl import (
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_NEWLINK,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_LINK,
    rt_proto,
)
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP

from dni_driver.core.names import HOST_LINK_PREFIX, VTEP_LINK, container_link
from dni_driver.kernel.netlink import wire
from dni_driver.kernel.peers.batches import PROTOCOL

_OF_CONTAINERS = (HOST_LINK_PREFIX, container_link(""), "veth")
_HEAD = struct.Struct("=BxHiII")
_NAME, _MTU = 3, 4
_TABLE_AT, _PROTOCOL_AT = 4, 5
_MAIN = 254
_LARGEST = 1 << 16


class News:
    """The news of one listener."""

    def __init__(self) -> None:
        """Hear nothing yet."""
        self._ended = os.eventfd(0)
        self._known: dict[int, tuple[str, int, int]] = {}

    def __del__(self) -> None:
        """Close what is left."""
        os.close(self._ended)

    def __iter__(self) -> Iterator[None]:
        """Answer, each time there are news of this thread's network namespace, until `end`; raise OSError."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as ear:
            ear.bind((0, RTMGRP_LINK | RTMGRP_IPV4_ROUTE))
            ready = select.poll()
            for file in (ear.fileno(), self._ended):
                ready.register(file, select.POLLIN)
            while all(file != self._ended for file, _ in ready.poll()):
                if self._is_news(_heard(ear)):
                    yield

    def end(self) -> None:
        """Have whoever listens stop; from any thread."""
        os.eventfd_write(self._ended, 1)

    def _is_news(self, heard: bytes | None) -> bool:
        """Tell whether one message or more is news; what was too much to be kept (None) is."""
        if heard is None:
            return True
        news = [self._note(kind, body) or _robs(kind, body) for kind, _, body in wire.messages(heard)]
        return any(news)

    def _note(self, kind: int, body: bytes) -> bool:
        """Tell whether a link came, went or has another name or MTU than when it was last heard of.

        All that hangs on the VTEP is lost when it goes down.
        """
        family, _, index, flags, _ = _HEAD.unpack_from(body)
        if family != socket.AF_UNSPEC or kind not in (RTM_NEWLINK, RTM_DELLINK):
            return False
        name, mtu = _name_and_mtu(body[_HEAD.size :])
        if name.startswith(_OF_CONTAINERS):
            return False
        before = self._known.pop(index, None)
        if kind == RTM_NEWLINK:
            self._known[index] = (name, mtu, flags & IFF_UP if name == VTEP_LINK else 0)
        return before != self._known.get(index)


def _robs(kind: int, body: bytes) -> bool:
    """Tell whether a route of ours was deleted, or one that the kernel makes with an address."""
    if kind != RTM_DELROUTE:
        return False
    kernels = body[_PROTOCOL_AT] == rt_proto["kernel"] and body[_TABLE_AT] == _MAIN
    return kernels or body[_PROTOCOL_AT] == PROTOCOL


def _heard(ear: socket.socket) -> bytes | None:
    try:
        return ear.recv(_LARGEST)
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
        return None


def _name_and_mtu(body: bytes) -> tuple[str, int]:
    """Read two attributes, which are among the first."""
    name = ""
    for kind, value in wire.attributes(body):
        if kind == _NAME:
            name = value.rstrip(b"\0").decode(errors="replace")
        if kind == _MTU:
            return name, int.from_bytes(value, sys.byteorder)
    return name, 0
