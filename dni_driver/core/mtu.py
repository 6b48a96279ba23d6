# SPDX-License-Identifier: Apache-2.0
"""How large a packet fits an overlay."""

from __future__ import annotations

from typing import Literal

from dni_driver.core.errors import Refused

VXLAN_OVERHEAD = {4: 50, 6: 70}
"""Bytes that VXLAN adds, by the underlay's family (RFC 7348 section 5: outer Ethernet, IP, UDP, VXLAN)."""

LARGEST_BRIDGE_MTU = 65535
SMALLEST_IPV6_MTU = 1280
"""Bytes that each link must carry for IPv6 to work on it (RFC 8200 section 5)."""


def overlay_mtu(underlay: int, backend: Literal["vxlan", "direct", "auto"], family: int = 4) -> int:
    """Answer the MTU in bytes of an overlay whose packets travel over a link of `underlay` bytes."""
    overhead = 0 if backend == "direct" else VXLAN_OVERHEAD[family]
    return min(underlay, LARGEST_BRIDGE_MTU) - overhead


def check_mtu(mtu: int, *, speaks_ipv6: bool) -> None:
    """Raise Refused where a network's MTU in bytes leaves no room for the IPv6 that it is to speak."""
    if speaks_ipv6 and mtu < SMALLEST_IPV6_MTU:
        raise Refused(
            f"mtu={mtu} does not fit: IPv6 needs {SMALLEST_IPV6_MTU} at the least; use a larger -o mtu where the "
            f"link between the hosts carries that, or leave --ipv6 out"
        )
