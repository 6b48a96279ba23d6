# SPDX-License-Identifier: Apache-2.0
"""How large a packet fits an overlay."""

from __future__ import annotations

from typing import Literal

VXLAN_OVERHEAD = {4: 50, 6: 70}
"""Bytes that VXLAN adds, by the underlay's family (RFC 7348 section 5: outer Ethernet, IP, UDP, VXLAN)."""

LARGEST_BRIDGE_MTU = 65535


def overlay_mtu(underlay: int, backend: Literal["vxlan", "direct", "auto"], family: int = 4) -> int:
    """Answer the MTU in bytes of an overlay whose packets travel over a link of `underlay` bytes."""
    overhead = 0 if backend == "direct" else VXLAN_OVERHEAD[family]
    return min(underlay, LARGEST_BRIDGE_MTU) - overhead
