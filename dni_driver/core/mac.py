# SPDX-License-Identifier: Apache-2.0
"""MAC addresses: a container's follows from its IP, so that an address and its MAC always change together."""

from __future__ import annotations

import string
from ipaddress import IPv6Address
from zlib import crc32

import netaddr

from dni_driver.core.errors import Refused
from dni_driver.core.overlays import Address

_LOCAL_UNICAST = 0x0242
_KEPT_BITS = 32
_MULTICAST_BIT = 1 << 40
_DIGITS = 12
_LINK_LOCAL = IPv6Address("fe80::").packed[:8]


def mac_for(address: Address) -> str:
    """Answer a locally administered unicast MAC: `02:42` and the low 32 bits of the address.

    What an IPv6 address has above them is folded in: one bridge can carry addresses that differ there alone.
    """
    above, low = divmod(int(address), 1 << _KEPT_BITS)
    folded = low ^ crc32(above.to_bytes(12)) if above else low
    return _text(netaddr.EUI((_LOCAL_UNICAST << _KEPT_BITS) | folded, version=48))


def link_local(mac: str) -> IPv6Address:
    """Answer the link-local address that a kernel gives to a link with this MAC (RFC 4291 appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    return IPv6Address(_LINK_LOCAL + bytes([octets[0] ^ 0x02]) + octets[1:3] + b"\xff\xfe" + octets[3:])


def parse_mac(text: str) -> str:
    """Answer a MAC in lower-case colon form; raise Refused unless it is a unicast 48-bit address."""
    mac = _read(text)
    if mac is None:
        raise Refused(f"{text[:40]!r} is not a MAC address: write six pairs such as 02:42:09:00:00:82")
    if int(mac) & _MULTICAST_BIT:
        raise Refused(f"MAC address {text} is a multicast address: the first byte must be even")
    return _text(mac)


def _read(text: str) -> netaddr.EUI | None:
    # netaddr alone would fill up what is missing: 02:42:ac to 00:02:00:42:00:ac.
    if sum(text.count(digit) for digit in string.hexdigits) != _DIGITS:
        return None
    try:
        return netaddr.EUI(text, version=48)
    except (netaddr.AddrFormatError, ValueError, TypeError):
        return None


def _text(mac: netaddr.EUI) -> str:
    mac.dialect = netaddr.mac_unix_expanded
    return str(mac)
