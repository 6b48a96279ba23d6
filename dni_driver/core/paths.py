# SPDX-License-Identifier: Apache-2.0
"""By which path packets travel to another agent, and what the kernel has to know for it.

Agents know each other by IPv4 addresses. So the IPv6 of an overlay has no next hop to go to directly, and travels by
VXLAN whatever the backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from dni_driver.core.entries import Key
from dni_driver.core.mtu import Underlay, overlay_mtu
from dni_driver.core.names import VTEP_LINK
from dni_driver.core.overlays import AgentSubnet, Backend, Family, Overlay
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.records import Interface

Path = Literal["vxlan", "direct", "none"]
"""none: the backend is `direct`, and a router stands between."""

AGENT_TABLE = 42
"""The routing table in which containers find agents (DC/OS's number)."""


class VtepDevice(msgspec.Struct, frozen=True, kw_only=True):
    """The VTEP as the kernel shall have it; `mtu` in bytes."""

    mac: str
    addresses: tuple[Interface, ...]
    mtu: int


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What the paths to all peers follow from, apart from the peers: the overlays, and where this agent stands.

    `ipv6`: this host can speak it.
    """

    vtep: Vtep
    overlays: tuple[Overlay, ...]
    underlay: Underlay
    ipv6: bool = True

    @property
    def device(self) -> VtepDevice:
        """Answer this agent's VTEP; of what does not fit its MTU the sender is told."""
        addresses: tuple[Interface, ...] = (self.vtep.ip, self.vtep.ip6) if self.has_ipv6 else (self.vtep.ip,)
        return VtepDevice(mac=self.vtep.mac, addresses=addresses, mtu=overlay_mtu(self.underlay.mtu, "vxlan"))

    @property
    def has_ipv6(self) -> bool:
        """Tell whether any overlay has IPv6, and this host too."""
        return self.ipv6 and any(overlay.subnet6 for overlay in self.overlays)


def path(backend: Backend, family: Family, *, near: bool) -> Path:
    """Answer the path to an agent; `near`: its address is on this agent's link."""
    if family == 6 or backend == "vxlan":  # noqa: PLR2004
        return "vxlan"
    if near:
        return "direct"
    return "vxlan" if backend == "auto" else "none"


def entries(peer: Peer, situation: Situation) -> dict[Key, str]:
    """Answer all that the kernel has to know of a peer.

    Its VTEP is always known, and an agent on the link is always a guest: what a host that heard of another backend
    later, or sooner, sends by the other path arrives.
    """
    near = situation.underlay.reaches(peer.agent_ip)
    found: dict[Key, str] = dict(_vtep_entries(peer, situation))
    backends = {overlay.name: overlay.backend for overlay in situation.overlays}
    for subnet in peer.subnets:
        if subnet.overlay in backends and (subnet.family == 4 or situation.ipv6):  # noqa: PLR2004
            way = path(backends[subnet.overlay], subnet.family, near=near)
            found["route", str(subnet.subnet)] = _way(peer, subnet, way, situation.underlay)
            if near and subnet.family == 4:  # noqa: PLR2004
                found["guest subnet", str(subnet.subnet.network_address)] = ""
    return found


def _vtep_entries(peer: Peer, situation: Situation) -> Iterator[tuple[Key, str]]:
    mac, agent = peer.vtep.mac, str(peer.agent_ip)
    near = situation.underlay.reaches(peer.agent_ip)
    yield ("neighbour", str(peer.vtep.ip.ip)), mac
    if situation.has_ipv6:
        yield ("neighbour", str(peer.vtep.ip6.ip)), mac
    yield ("forwarding", mac), agent
    if any(overlay.subnet and path(overlay.backend, 4, near=near) == "vxlan" for overlay in situation.overlays):
        yield ("agent route", agent), f"via {peer.vtep.ip.ip} dev {VTEP_LINK}"
    if near:
        yield ("guest agent", agent), ""


def _way(peer: Peer, subnet: AgentSubnet, way: Path, underlay: Underlay) -> str:
    if way == "none":
        return "unreachable"
    if way == "direct":
        return f"via {peer.agent_ip} dev {underlay.link}"
    vtep = peer.vtep.ip if subnet.family == 4 else peer.vtep.ip6  # noqa: PLR2004
    return f"via {vtep.ip} dev {VTEP_LINK}"


def rules(overlays: tuple[Overlay, ...]) -> dict[Key, str]:
    """Answer the rules that send containers to the agents' table first: IPv4, as agents have IPv4 addresses."""
    tunnelled = [overlay.subnet for overlay in overlays if overlay.subnet and overlay.backend != "direct"]
    return {("rule", str(subnet)): f"lookup {AGENT_TABLE}" for subnet in tunnelled}


def problems(overlays: Iterable[Overlay], peers: Sequence[Peer], underlay: Underlay) -> Iterator[tuple[str, str]]:
    """Answer the overlays whose backend does not reach some peers, each with the problem in words."""
    for overlay in (one for one in overlays if one.backend == "direct"):
        far = [peer.agent_ip for peer in peers if _is_lost(overlay, peer, underlay)]
        if far:
            others = f" and {len(far) - 1} more" if len(far) > 1 else ""
            problem = f"backend direct does not reach agent {far[0]}{others}, behind a router: auto would, by VXLAN"
            yield f"overlay {overlay.name}", problem


def _is_lost(overlay: Overlay, peer: Peer, underlay: Underlay) -> bool:
    if underlay.reaches(peer.agent_ip):
        return False
    return any(held.overlay == overlay.name and held.family == 4 for held in peer.subnets)  # noqa: PLR2004
