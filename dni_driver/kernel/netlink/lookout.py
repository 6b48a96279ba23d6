# SPDX-License-Identifier: Apache-2.0
"""What was read of the kernel last, which holds as long as the kernel tells nothing new about it.

The kernel tells each change to whoever listens. What it tells is not read: that it tells something is enough. So
an idle host, however many containers it has, costs one look at a socket.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Generic, TypeVar

from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK, RTMGRP_TC

LINKS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR
"""What the kernel tells of links and their addresses."""
TRAFFIC_CONTROL = RTMGRP_TC
"""What it tells of qdiscs and filters."""

_KEPT = 1 << 13
"""Bytes of news that the kernel keeps for us; of more it says that there was more."""


_Seen = TypeVar("_Seen")


class Lookout(Generic[_Seen]):
    """Looks at the network namespace of the thread that looks first; its callers hold the lock of `Kernel`."""

    def __init__(self, read: Callable[[], _Seen], news: int, clock: Callable[[], float], longest: float) -> None:
        """Take what reads, and the groups of news that make it read anew; listen from the first look on.

        After `longest` seconds by this clock it reads anew all the same.
        """
        self._read = read
        self._groups = news
        self._clock = clock
        self._longest = longest
        self._ear: socket.socket | None = None
        self._last: _Seen | None = None
        self._since = 0.0

    def __del__(self) -> None:
        """Close what nobody has closed."""
        self.close()

    def look(self) -> _Seen:
        """Answer what there is now; raise OSError."""
        if self._has_news() or self._clock() - self._since > self._longest:
            self._last = None
        if self._last is None:
            self._since = self._clock()
            self._last = self._read()
        return self._last

    def forget(self) -> None:
        """Have the next look be a new one: the kernel may tell of a change of ours only after it is made."""
        self._last = None

    def close(self) -> None:
        """Listen no longer, until the next look."""
        if self._ear is not None:
            self._ear.close()
        self._ear = self._last = None

    def _has_news(self) -> bool:
        """Tell whether the kernel has told anything since last time, and forget it."""
        if self._ear is None:
            self._ear = _listening(self._groups)
        news = False
        while _heard(self._ear):
            news = True
        return news


def _listening(groups: int) -> socket.socket:
    ear = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KEPT)
    ear.bind((0, groups))
    return ear


def _heard(ear: socket.socket) -> bool:
    try:
        ear.recv(_KEPT)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
    return True
