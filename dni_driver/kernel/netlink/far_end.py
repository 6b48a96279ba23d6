# SPDX-License-Identifier: Apache-2.0
"""What the far end of a veth pair is called, in whatever namespace that is: two short questions (linux/if_link.h).

Where containers start by the hundred there are as many to ask, and pyroute2 takes milliseconds over each.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys

from dni_driver.kernel.netlink import wire
from dni_driver.kernel.netlink.rtnetlink import HEAD, LARGEST, named, opened
from dni_driver.kernel.netlink.wire import attribute

_GET_LINK = 18
_NAME, _PEER, _MASK, _PEER_NAMESPACE, _NAMESPACE = 3, 5, 29, 37, 46
_WITHOUT_STATISTICS = attribute(_MASK, struct.pack("=I", 8))


def name_of_far_end(near: str) -> str | None:
    """Answer what a link's other end is called where it was moved to; None where it was not, or is gone by now.

    Raises OSError, DeadlineExceeded.
    """
    with opened() as kernel:
        try:
            found = _asked(kernel, 0, named(near))
            if _PEER_NAMESPACE not in found:
                return None
            index = int.from_bytes(found[_PEER], sys.byteorder)
            found = _asked(kernel, index, attribute(_NAMESPACE, found[_PEER_NAMESPACE]))
        except OSError as refused:
            # No such link, and no such namespace.
            if refused.errno in (errno.ENODEV, errno.EINVAL):
                return None
            raise
        return found[_NAME].rstrip(b"\0").decode(errors="replace")


def _asked(kernel: socket.socket, index: int, described: bytes) -> dict[int, bytes]:
    """Ask about one link; answer its attributes."""
    body = HEAD.pack(0, 0, index, 0, 0) + described + _WITHOUT_STATISTICS
    kernel.send(wire.message(_GET_LINK, wire.REQUEST, body))
    ((_, _, answer),) = wire.messages(kernel.recv(LARGEST))
    return dict(wire.attributes(answer[HEAD.size :]))
