# SPDX-License-Identifier: Apache-2.0
"""The last snapshot, which holds as long as the kernel tells nothing new about links and addresses.

The kernel tells each change to whoever listens. What it tells is not read: that it tells something is enough. So
an idle host, however many containers it has, costs one look at a socket.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK

from dni_driver.kernel import snapshot
from dni_driver.kernel.snapshot import Snapshot

_GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR
_LONGEST = 60.0
"""Seconds after which it is read anew all the same: some settings of a link that is down change without a word."""
_KEPT = 1 << 13
"""Bytes of news that the kernel keeps for us; of more it says that there was more."""


class Lookout:
    """Looks at the network namespace of the thread that looks first; its callers hold the lock of `Kernel`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Count seconds by this clock; listen from the first look on."""
        self._clock = clock
        self._ear: socket.socket | None = None
        self._last: Snapshot | None = None
        self._since = 0.0

    def __del__(self) -> None:
        """Close what nobody has closed."""
        self.close()

    def look(self) -> Snapshot:
        """Answer the links and addresses as they are now; raise OSError."""
        if self._has_news() or self._clock() - self._since > _LONGEST:
            self._last = None
        if self._last is None:
            self._since = self._clock()
            self._last = snapshot.read()
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
            self._ear = _listening()
        news = False
        while _heard(self._ear):
            news = True
        return news


def _listening() -> socket.socket:
    ear = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KEPT)
    ear.bind((0, _GROUPS))
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
