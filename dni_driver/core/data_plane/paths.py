# SPDX-License-Identifier: Apache-2.0
"""By which path packets travel to another agent, and what the kernel has to know for it.

The agents of a cluster know each other by addresses of one family. By IPv4 addresses, the IPv6 of an overlay has no
next hop to go to directly, and travels by VXLAN whatever the backend. By IPv6 addresses, both families have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv6Address
from typing import Literal

import msgspec

from dni_driver.core.data_plane.entries import Key
from dni_driver.core.mtu import SMALLEST_IPV6_MTU, Underlay, overlay_mtu
from dni_driver.core.names import VTEP_LINK
from dni_driver.core.overlays import AgentSubnet, Backend, Family, Network, Overlay, family_of, share_addresses
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.records import Interface

Path = Literal["vxlan", "direct", "none"]
"""none: the backend is `direct`, and a router stands between."""

AGENT_TABLE = 42
"""The routing table in which containers find agents (DC/OS's number)."""


class VtepDevice(msgspec.Struct, frozen=True, kw_only=True):
    """The VTEP as the kernel shall have it; `mtu` in bytes. `local`: what it sends over IPv6 comes from there."""

    mac: str
    addresses: tuple[Interface, ...]
    mtu: int
    local: IPv6Address | None = None


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
        return VtepDevice(mac=self.vtep.mac, addresses=addresses, mtu=self._mtu, local=self.underlay.local)

    @property
    def has_ipv6(self) -> bool:
        """Tell whether any overlay has IPv6, and this host too, and its VTEP room for it."""
        return self.ipv6 and self._mtu >= SMALLEST_IPV6_MTU and any(overlay.subnet6 for overlay in self.overlays)

    @property
    def _mtu(self) -> int:
        return overlay_mtu(self.underlay.mtu, "vxlan", self.underlay.family)


def path(backend: Backend, family: Family, *, near: bool, over: Family = 4) -> Path:
    """Answer the path to an agent; `near`: its address is on this agent's link. `over`: of which family that is."""
    if backend == "vxlan" or not _has_next_hop(family, over):
        return "vxlan"
    if near:
        return "direct"
    return "vxlan" if backend == "auto" else "none"


def _has_next_hop(family: Family, over: Family) -> bool:
    """Tell whether packets of a family can be handed to the address of another agent: IPv6 not to IPv4."""
    return family <= over


def entries(peer: Peer, situation: Situation) -> dict[Key, str]:
    """Answer all that the kernel has to know of a peer.

    Its VTEP is always known, and an agent on the link is always a guest: what a host that heard of another backend
    later, or sooner, sends by the other path arrives. One known from before this host's agent IP became one of
    the other family cannot be reached: until the registry tells of it anew, its containers are unreachable.
    """
    if family_of(peer.agent_ip) != situation.underlay.family:
        return {("route", str(subnet.subnet)): "unreachable" for subnet, _ in _routed(peer, situation)}
    near, over = situation.underlay.reaches(peer.agent_ip), situation.underlay.family
    found: dict[Key, str] = dict(_vtep_entries(peer, situation))
    for subnet, backend in _routed(peer, situation):
        way = path(backend, subnet.family, near=near, over=over)
        found["route", str(subnet.subnet)] = _way(peer, subnet, way, situation)
        if near and _has_next_hop(subnet.family, over):
            found["guest subnet", str(subnet.subnet.network_address)] = ""
    return found


def _routed(peer: Peer, situation: Situation) -> Iterator[tuple[AgentSubnet, Backend]]:
    """Answer a peer's agent subnets of overlays that are known and families that this host speaks.

    But for those that this host's own link lies in: led elsewhere, it would be cut off.
    """
    overlays = {overlay.name: overlay for overlay in situation.overlays}
    for subnet in peer.subnets:
        overlay = overlays.get(subnet.overlay)
        is_spoken = subnet.family == 4 or situation.ipv6  # noqa: PLR2004
        if overlay and is_spoken and not _first_shared(subnet, _own_inside(overlay, situation.underlay)):
            yield subnet, overlay.backend


def _own_inside(overlay: Overlay, underlay: Underlay) -> list[Network]:
    """Answer the networks of this host's link that are part of an overlay: of a wider one hosts have the rest."""
    wholes = overlay.subnets()
    return [
        own
        for own in underlay.networks
        if any(share_addresses(whole, own) and whole.prefixlen <= own.prefixlen for whole in wholes)
    ]


def _first_shared(subnet: AgentSubnet, networks: Sequence[Network]) -> Network | None:
    return next((network for network in networks if share_addresses(subnet.subnet, network)), None)


def _vtep_entries(peer: Peer, situation: Situation) -> Iterator[tuple[Key, str]]:
    mac, agent = peer.vtep.mac, str(peer.agent_ip)
    near, over = situation.underlay.reaches(peer.agent_ip), situation.underlay.family
    yield ("neighbour", str(peer.vtep.ip.ip)), mac
    if situation.has_ipv6:
        yield ("neighbour", str(peer.vtep.ip6.ip)), mac
    yield ("forwarding", mac), agent
    if _is_carried(over, situation) and any(
        one.space(over) and path(one.backend, over, near=near, over=over) == "vxlan" for one in situation.overlays
    ):
        yield ("agent route", agent), _by_vtep(peer.vtep, over)
    if near:
        yield ("guest agent", agent), ""
        if over == 6:  # noqa: PLR2004
            yield ("guest agent", str(peer.vtep.ip.ip)), ""


def _by_vtep(vtep: Vtep, family: Family) -> str:
    return f"via {(vtep.ip if family == 4 else vtep.ip6).ip} dev {VTEP_LINK}"  # noqa: PLR2004


def _is_carried(family: Family, situation: Situation) -> bool:
    """Tell whether the VTEP carries a family: IPv6 not where the underlay leaves it too small an MTU."""
    return family == 4 or situation.has_ipv6  # noqa: PLR2004


def _way(peer: Peer, subnet: AgentSubnet, way: Path, situation: Situation) -> str:
    if way == "none" or (way == "vxlan" and not _is_carried(subnet.family, situation)):
        return "unreachable"
    if way == "direct":
        return _directly(peer, subnet.family, situation)
    return _by_vtep(peer.vtep, subnet.family)


def _directly(peer: Peer, family: Family, situation: Situation) -> str:
    """Answer the way by a peer's own address; over IPv6 with the address that this host itself sends from.

    Left to choose, the kernel could take another of its IPv6 addresses, or any IPv4 one, by which the peer does not
    know this agent.
    """
    link, local = situation.underlay.link, situation.underlay.local
    if local is None:
        return f"via {peer.agent_ip} dev {link}"
    if family == 4:  # noqa: PLR2004
        return f"via inet6 {peer.agent_ip} dev {link} src {situation.vtep.ip.ip}"
    return f"via {peer.agent_ip} dev {link} src {local}"


def rules(overlays: tuple[Overlay, ...], over: Family = 4) -> dict[Key, str]:
    """Answer the rules that send containers to the agents' table first, of the family of the agents' addresses."""
    tunnelled = [space[0] for one in overlays if one.backend != "direct" and (space := one.space(over))]
    return {("rule", str(subnet)): f"lookup {AGENT_TABLE}" for subnet in tunnelled}


def problems(overlays: Iterable[Overlay], peers: Sequence[Peer], underlay: Underlay) -> Iterator[tuple[str, str]]:
    """Answer the overlays whose backend does not reach some peers, each with the problem in words."""
    for overlay in (one for one in overlays if one.backend == "direct"):
        far = [peer.agent_ip for peer in peers if _is_lost(overlay, peer, underlay)]
        if far:
            others = f" and {len(far) - 1} more" if len(far) > 1 else ""
            problem = f"backend direct does not reach agent {far[0]}{others}, behind a router: auto would, by VXLAN"
            yield f"overlay {overlay.name}", problem


def left_out(overlays: Iterable[Overlay], peers: Sequence[Peer], underlay: Underlay) -> Iterator[tuple[str, str]]:
    """Answer the overlays with agent subnets that this host does not lead to, each with the problem in words."""
    inside = ((overlay, own) for overlay in overlays if (own := _own_inside(overlay, underlay)))
    for overlay, own in inside:
        held = (one for peer in peers for one in peer.subnets if one.overlay == overlay.name)
        found = next(((one, network) for one in held if (network := _first_shared(one, own))), None)
        if found:
            shared = f"agent subnet {found[0].subnet} shares addresses with {found[1]}, this host's own network"
            yield (
                f"overlay {overlay.name}",
                f"{shared} on {underlay.link}: its containers cannot be reached from here",
            )


def _is_lost(overlay: Overlay, peer: Peer, underlay: Underlay) -> bool:
    if underlay.reaches(peer.agent_ip):
        return False
    return any(held.overlay == overlay.name and _has_next_hop(held.family, underlay.family) for held in peer.subnets)
