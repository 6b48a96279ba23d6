# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells of changes to entries about peers, so that they are not all listed to find none."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection

from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV4_RULE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_IPV6_ROUTE,
    RTMGRP_IPV6_RULE,
    RTMGRP_LINK,
    RTMGRP_NEIGH,
)

from dni_driver.kernel.netlink import wire
from dni_driver.kernel.peers.batches import PROTOCOL

_ADDRESSES = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR
_ROUTES = RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE
_RULES = RTMGRP_IPV4_RULE | RTMGRP_IPV6_RULE
_GROUPS = RTMGRP_LINK | RTMGRP_NEIGH | _ADDRESSES | _ROUTES | _RULES
_KEPT = 1 << 17
"""Bytes of news that the kernel keeps for us; of more it says that there was more."""
_LARGEST = 1 << 16
_LINK_INDEX = struct.Struct("=4xi")
"""Where it stands in what is told of links and of their addresses."""
_NEIGHBOUR = struct.Struct("=B3xiH")
_PROTOCOL_AT = 5
_PERMANENT = 0x80


class Hearing:
    """Listens to the network namespace of the thread that asks first; its callers hold the lock of `Kernel`."""

    def __init__(self) -> None:
        """Hear nothing yet."""
        self._ear: socket.socket | None = None

    def __del__(self) -> None:
        """Close what nobody has closed."""
        self.close()

    def close(self) -> None:
        """Listen no longer, until asked again."""
        if self._ear is not None:
            self._ear.close()
        self._ear = None

    def harm(self, links: Collection[int]) -> bool:
        """Tell whether entries may have been lost since last time; `links` are the indexes of those they rest on."""
        if self._ear is None:
            self._ear = _listening()
            return True
        harmed = False
        while (heard := _heard(self._ear)) is not None:
            harmed |= not heard or any(_harms(kind, body, links) for kind, _, body in wire.messages(heard))
        return harmed


def _listening() -> socket.socket:
    ear = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KEPT)
    ear.bind((0, _GROUPS))
    return ear


def _heard(ear: socket.socket) -> bytes | None:
    """Answer what was told, None where that was all; empty where it was too much to be kept."""
    try:
        return ear.recv(_LARGEST)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
        return b""


def _harms(kind: int, body: bytes, links: Collection[int]) -> bool:
    # With an address the kernel deletes the routes that need it, and tells of none of them.
    if kind in (RTM_NEWLINK, RTM_DELLINK, RTM_DELADDR):
        (index,) = _LINK_INDEX.unpack_from(body)
        return bool(index in links)
    if kind in (RTM_NEWROUTE, RTM_DELROUTE):
        return body[_PROTOCOL_AT] == PROTOCOL
    if kind == RTM_DELNEIGH:
        family, link, state = _NEIGHBOUR.unpack_from(body)
        return link in links and (family != socket.AF_BRIDGE or bool(state & _PERMANENT))
    return kind in (RTM_NEWRULE, RTM_DELRULE)
