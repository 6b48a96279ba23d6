# SPDX-License-Identifier: Apache-2.0
"""What a Mesos agent's overlay module says of its host, checked and in our words."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network

import msgspec

from dni_driver.core.errors import Refused, Unavailable
from dni_driver.core.hosting import Hosting
from dni_driver.core.mesos import dcos
from dni_driver.core.names import check_overlay_name
from dni_driver.core.overlays import LONGEST_PREFIX, Address, AgentSubnet, Network, Overlay, family_of
from dni_driver.core.peers import Vtep

_LONGEST_TEXT = 300
_LEAVE_DOCKER = '"docker_bridge": false in the agent\'s overlay configuration leaves Docker to dni'


class MesosPart(msgspec.Struct, frozen=True, kw_only=True):
    """What Mesos gives this host: overlays by name, their agent subnets, the VTEP, and what there is to say of it."""

    agent_ip: Address
    overlays: tuple[Overlay, ...]
    held: tuple[AgentSubnet, ...]
    vtep: Vtep | None
    hosting: Hosting
    remarks: tuple[str, ...]


def read_part(answer: dcos.Agent) -> MesosPart:
    """Answer what a Mesos agent's answer means; raise Unavailable where it gives this host nothing, saying why.

    One overlay that cannot be used does not keep the others from being used.
    """
    agent_ip = _agent_ip(answer.ip)
    if not answer.overlays:
        raise Unavailable(
            f"Mesos has given agent {agent_ip} no overlay yet: its overlay module has not registered with the "
            f"leading master; dni asks again"
        )
    found, remarks = _usable(answer.overlays)
    if not found:
        raise Unavailable(f"no overlay of Mesos can be used on agent {agent_ip}: {'; '.join(remarks)}")
    found.sort(key=lambda one: one[0].name)
    parts = [part for _, part in found]
    return MesosPart(
        agent_ip=agent_ip,
        overlays=tuple(overlay for overlay, _ in found),
        held=tuple(AgentSubnet(overlay=part.info.name, subnet=subnet) for part in parts for subnet in _subnets(part)),
        vtep=next((vtep for part in parts if (vtep := _vtep(part)) is not None), None),
        hosting=_hosting(parts),
        remarks=(*remarks, *(text for part in parts for text in _remarks(part))),
    )


def _agent_ip(text: str) -> Address:
    """Answer the agent IP, after which a port may stand."""
    try:
        return IPv4Address(text.partition(":")[0])
    except ValueError:
        raise Unavailable(f"the Mesos agent calls itself {text[:60]!r}, which is no IPv4 address") from None


def _usable(parts: list[dcos.AgentOverlay]) -> tuple[list[tuple[Overlay, dcos.AgentOverlay]], list[str]]:
    """Answer what can be used, and in words what cannot."""
    found: dict[str, tuple[Overlay, dcos.AgentOverlay]] = {}
    remarks = []
    for part in parts:
        try:
            overlay = _overlay(part)
        except (Refused, ValueError) as error:
            remarks.append(f"overlay {part.info.name[:40]!r} of Mesos cannot be used: {error}")
        else:
            found.setdefault(overlay.name, (overlay, part))
    return list(found.values()), remarks


def _overlay(part: dcos.AgentOverlay) -> Overlay:
    """Build an overlay from its definition; raise Refused or ValueError where that, or this host's part, is wrong."""
    info = part.info
    overlay = Overlay(
        name=check_overlay_name(info.name),
        subnet=IPv4Network(info.subnet) if info.subnet else None,
        prefix=info.prefix,
        subnet6=IPv6Network(info.subnet6) if info.subnet6 else None,
        prefix6=info.prefix6,
    )
    held = list(_subnets(part))
    if not held:
        raise Refused("it gives this agent no subnet (allocate_subnet is false)")
    for subnet in held:
        _check_part(overlay, subnet)
    _check_bridge(part, held)
    return overlay


def _check_part(overlay: Overlay, subnet: Network) -> None:
    space = overlay.space(family_of(subnet))
    if space is None or subnet.prefixlen != space[1] or not subnet.overlaps(space[0]):
        raise Refused(f"{subnet} is no agent subnet of it")
    if not space[0].prefixlen <= space[1] <= LONGEST_PREFIX[family_of(subnet)]:
        raise Refused(f"agent subnets of /{space[1]} are too small for two halves with a gateway each")


def _check_bridge(part: dcos.AgentOverlay, held: list[Network]) -> None:
    """Refuse a Docker half that is not the second half: some addresses of ours would be Mesos'."""
    bridge = part.docker_bridge
    for told in (bridge.ip, bridge.ip6) if bridge else ():
        halves = [str(AgentSubnet(overlay=part.info.name, subnet=subnet).docker_half) for subnet in held]
        if told is not None and told not in halves:
            raise Refused(f"its Docker half is {told[:60]!r}, not {' or '.join(halves)}")


def _subnets(part: dcos.AgentOverlay) -> Iterator[Network]:
    if part.subnet:
        yield IPv4Network(part.subnet)
    if part.subnet6:
        yield IPv6Network(part.subnet6)


def _vtep(part: dcos.AgentOverlay) -> Vtep | None:
    vxlan = part.backend.vxlan
    try:
        return Vtep(IPv4Interface(vxlan.vtep_ip)) if vxlan else None
    except ValueError:
        return None


def _hosting(parts: list[dcos.AgentOverlay]) -> Hosting:
    """Answer what Mesos and dcos-net do: the masquerade rule is made with a bridge of either kind, for IPv4 alone."""
    return Hosting(
        carries=True,
        masqueraded=frozenset(part.info.name for part in parts if _is_masqueraded(part)),
        vtep_mtu=next((part.backend.vxlan.vtep_mtu for part in parts if part.backend.vxlan), None),
    )


def _is_masqueraded(part: dcos.AgentOverlay) -> bool:
    has_bridge = part.mesos_bridge is not None or part.docker_bridge is not None
    return _status(part) == "STATUS_OK" and has_bridge and part.info.subnet6 is None


def _status(part: dcos.AgentOverlay) -> dcos.Status:
    return part.state.status if part.state else "STATUS_INVALID"


def _remarks(part: dcos.AgentOverlay) -> Iterator[str]:
    """Say what of an overlay does not work, or not yet, and what that means here."""
    name = part.info.name
    match _status(part):
        case "STATUS_CONFIGURING" | "STATUS_INVALID":
            yield (
                f"Mesos has not configured overlay {name!r} on this agent yet: until it has, dcos-net routes it to "
                f"no other host"
            )
        case "STATUS_FAILED":
            error = " ".join((part.state.error if part.state and part.state.error else "no reason given").split())
            yield (
                f"Mesos could not configure overlay {name!r} on this agent, and dcos-net routes it to no other host: "
                f"{error[:_LONGEST_TEXT]} ({_LEAVE_DOCKER})"
            )
