# SPDX-License-Identifier: Apache-2.0
"""How large a packet fits an overlay: the underlay's MTU less what the encapsulation takes."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

import msgspec

from dni_driver.core.errors import Refused
from dni_driver.core.hosting import Hosting
from dni_driver.core.options.network import SMALLEST_MTU
from dni_driver.core.overlays import Address, Backend, Family, Network, Overlay
from dni_driver.core.records import NetworkRecord, Records

VXLAN_OVERHEAD: dict[Family, int] = {4: 50, 6: 70}
"""Bytes that VXLAN adds, by the underlay's family (RFC 7348 section 5: outer Ethernet, IP, UDP, VXLAN)."""

LARGEST_BRIDGE_MTU = 65535
SMALLEST_IPV6_MTU = 1280
"""RFC 8200 section 5; a link below it loses its IPv6 addresses, and does not get them back."""


class Underlay(msgspec.Struct, frozen=True, kw_only=True):
    """The link that carries the agent IP, its MTU in bytes, and the networks that are to be found on it.

    `local` is the agent IP where that is an IPv6 address: a link has several of those, and what is sent to other
    agents is to come from this one. Of IPv4 addresses the kernel takes the right one by itself.
    """

    link: str
    mtu: int
    networks: tuple[Network, ...] = ()
    local: IPv6Address | None = None

    @property
    def family(self) -> Family:
        """Answer by which family agents reach each other."""
        return 6 if self.local else 4

    def reaches(self, address: Address) -> bool:
        """Tell whether an address is on the link, without a router between."""
        return any(address in network for network in self.networks if network.version == address.version)


def overlay_mtu(underlay: int, backend: Backend, family: Family) -> int:
    """Answer the MTU in bytes of an overlay whose packets travel over a link of `underlay` bytes, by that family.

    `auto` has room for VXLAN even while all peers are on the link: one behind a router may come at any time, and an
    MTU that shrinks under connections costs them more.
    """
    return min(underlay, LARGEST_BRIDGE_MTU) - _overhead(backend, family)


def _overhead(backend: Backend, family: Family) -> int:
    return 0 if backend == "direct" else VXLAN_OVERHEAD[family]


def hosted(underlay: Underlay, hosting: Hosting) -> Underlay:
    """Answer the underlay, no larger than what the VTEP of somebody else lets through."""
    if hosting.vtep_mtu is None:
        return underlay
    return msgspec.structs.replace(
        underlay, mtu=min(underlay.mtu, hosting.vtep_mtu + VXLAN_OVERHEAD[underlay.family])
    )


def first_mtu(network: NetworkRecord, overlay: Overlay, underlay: Underlay) -> int:
    """Answer the MTU of a new network; raise Refused, with the arithmetic, where its packets would not fit."""
    mtu = network_mtu(network, overlay, underlay)
    if network.gateway6 and mtu < SMALLEST_IPV6_MTU:
        raise Refused(
            f"mtu={mtu} does not fit: IPv6 needs {SMALLEST_IPV6_MTU} at the least; use a larger -o mtu where the "
            f"link between the hosts carries that, or leave --ipv6 out"
        )
    if mtu > overlay_mtu(underlay.mtu, overlay.backend, underlay.family):
        raise Refused(_arithmetic(mtu, underlay, overlay.backend))
    return mtu


def _arithmetic(mtu: int, underlay: Underlay, backend: Backend) -> str:
    overhead = _overhead(backend, underlay.family)
    taken = f", VXLAN takes {overhead}" if overhead else ""
    most = overlay_mtu(underlay.mtu, backend, underlay.family)
    return f"mtu={mtu} does not fit: {underlay.link} has {underlay.mtu}{taken}: at most {most}"


def network_mtu(network: NetworkRecord, overlay: Overlay, underlay: Underlay) -> int:
    """Answer the MTU a network should have: what its user said, else what fits, but no less than its IP needs."""
    least = SMALLEST_IPV6_MTU if network.gateway6 else SMALLEST_MTU
    return network.options.mtu or max(overlay_mtu(underlay.mtu, overlay.backend, underlay.family), least)


def cni_mtu(overlay: Overlay, network: NetworkRecord | None, underlay: Underlay) -> int:
    """Answer the MTU of an overlay's Mesos half: that of its Docker network, where there is one."""
    if network is not None:
        return network_mtu(network, overlay, underlay)
    least = SMALLEST_IPV6_MTU if overlay.subnet6 else SMALLEST_MTU
    return max(overlay_mtu(underlay.mtu, overlay.backend, underlay.family), least)


def outdated(records: Records, underlay: Underlay) -> dict[str, int]:
    """Answer the networks whose MTU is not what it should be now, by id, with that MTU."""
    underlay = hosted(underlay, records.hosting)
    right = {network: network_mtu(network, overlay, underlay) for network, overlay in _placed(records)}
    return {network.id: mtu for network, mtu in right.items() if mtu != network.mtu}


def misfits(records: Records, underlay: Underlay) -> Iterator[tuple[NetworkRecord, str]]:
    """Answer the networks whose MTU cannot follow an underlay that has shrunk, each with the arithmetic."""
    underlay = hosted(underlay, records.hosting)
    for network, overlay in _placed(records):
        mtu = network_mtu(network, overlay, underlay)
        if mtu > overlay_mtu(underlay.mtu, overlay.backend, underlay.family):
            yield network, _arithmetic(mtu, underlay, overlay.backend)


def _placed(records: Records) -> Iterator[tuple[NetworkRecord, Overlay]]:
    """Answer each network with its overlay."""
    overlays = {overlay.name: overlay for overlay in records.overlays}
    for network in records.networks:
        if network.overlay in overlays:
            yield network, overlays[network.overlay]
