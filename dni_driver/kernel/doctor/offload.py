# SPDX-License-Identifier: Apache-2.0
"""Whether a link leaves the checksums of what it sends to the network card (ethtool(8), tx-checksumming)."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_ETHTOOL_GTXCSUM = 0x16
_REQUEST = struct.Struct("16sP16x")
"""struct ifreq of netdevice(7): a name, and where the question is."""


class _Value(ctypes.Structure):
    """struct ethtool_value: a question, then its answer."""

    _fields_ = (("question", ctypes.c_uint32), ("answer", ctypes.c_uint32))


def leaves_checksums(link: str) -> bool:
    """Tell whether the card is to make them; raise OSError where there is no such link."""
    value = _Value(_ETHTOOL_GTXCSUM, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        fcntl.ioctl(kernel, _SIOCETHTOOL, _REQUEST.pack(link.encode(), ctypes.addressof(value)))
    return bool(value.answer)
