# SPDX-License-Identifier: Apache-2.0
"""What dni knows, in the words of DC/OS Overlay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from dni_driver.core.errors import Unavailable
from dni_driver.core.mesos import dcos
from dni_driver.core.names import docker_bridge, mesos_bridge
from dni_driver.core.overlays import FAMILIES, AgentSubnet, Family, Network, Overlay
from dni_driver.core.peers import VNI, VTEP_SUBNET6, Peer, Vtep
from dni_driver.core.records import Records
from dni_driver.registry import Member

VTEP_NAME = "vtep1024"
VTEP_MAC_OUI = "70:B3:D5:00:00:00"


def agent_of(records: Records, failures: Mapping[str, str]) -> dcos.Agent:
    """Answer what `/overlay-agent/overlay` says of this agent; `failures` are in words, by overlay.

    Raises Unavailable before the agent IP is known.
    """
    if records.agent is None:
        raise Unavailable("this host does not know its agent IP yet: `dni status` says why")
    mine = dcos_overlays(records.overlays, records.agent_subnets, records.vtep)
    return dcos.Agent(
        ip=str(records.agent),
        overlays=[_with_state(overlay, failures.get(overlay.info.name)) for overlay in mine],
        configuration_attempts=1 if mine else 0,
    )


def cluster_of(overlays: Iterable[Overlay], members: Iterable[Member | Peer], vtep_subnet: Network) -> dcos.Cluster:
    """Answer what `/overlay-master/state` says of overlays, all agents, and where they have their VTEPs from."""
    known = list(overlays)
    return dcos.Cluster(
        network=dcos.Network(
            overlays=[info_of(overlay) for overlay in known],
            vtep_mac_oui=VTEP_MAC_OUI,
            vtep_subnet=str(vtep_subnet),
            vtep_subnet6=str(VTEP_SUBNET6),
        ),
        agents=[_agent(member, known) for member in members],
    )


def _agent(member: Member | Peer, overlays: Iterable[Overlay]) -> dcos.Agent:
    parts = dcos_overlays(overlays, member.subnets, member.vtep)
    return dcos.Agent(ip=str(member.agent_ip), overlays=[_with_state(part, None) for part in parts])


def dcos_overlays(
    overlays: Iterable[Overlay], subnets: Iterable[AgentSubnet], vtep: Vtep | None
) -> list[dcos.AgentOverlay]:
    """Answer an agent's parts of the overlays, for each the agent subnets it has held longest.

    DC/OS gives an agent one subnet of each family, and dcos-net keeps one under its VTEP: a second would replace it.
    """
    held = list(subnets)
    parts = [_part(overlay, [one for one in held if one.overlay == overlay.name], vtep) for overlay in overlays]
    return [part for part in parts if part.subnet or part.subnet6]


def _part(overlay: Overlay, held: Iterable[AgentSubnet], vtep: Vtep | None) -> dcos.AgentOverlay:
    first: dict[Family, AgentSubnet] = {}
    for one in held:
        first.setdefault(one.family, one)
    docker = {family: one.docker_half for family, one in first.items()}
    mesos = {family: one.mesos_half for family, one in first.items()}
    return dcos.AgentOverlay(
        info=info_of(overlay),
        backend=dcos.Backend(vxlan=_vxlan(vtep) if vtep else None),
        subnet=str(first[4].subnet) if 4 in first else None,  # noqa: PLR2004
        subnet6=str(first[6].subnet) if 6 in first else None,  # noqa: PLR2004
        docker_bridge=_bridge(docker_bridge(overlay.name), docker),
        mesos_bridge=_bridge(mesos_bridge(overlay.name), mesos),
    )


def _bridge(name: str, halves: Mapping[Family, Network]) -> dcos.Bridge:
    ip, ip6 = (str(halves[family]) if family in halves else None for family in FAMILIES)
    return dcos.Bridge(name=name, ip=ip, ip6=ip6)


def info_of(overlay: Overlay) -> dcos.OverlayInfo:
    """Answer an overlay's definition."""
    space, space6 = (overlay.space(family) for family in FAMILIES)
    return dcos.OverlayInfo(
        name=overlay.name,
        subnet=str(space[0]) if space else None,
        prefix=space[1] if space else None,
        subnet6=str(space6[0]) if space6 else None,
        prefix6=space6[1] if space6 else None,
        enabled=True,
    )


def _vxlan(vtep: Vtep) -> dcos.Vxlan:
    return dcos.Vxlan(vni=VNI, vtep_ip=str(vtep.ip), vtep_ip6=str(vtep.ip6), vtep_mac=vtep.mac, vtep_name=VTEP_NAME)


def _with_state(part: dcos.AgentOverlay, failure: str | None) -> dcos.AgentOverlay:
    state = dcos.State(status="STATUS_FAILED" if failure else "STATUS_OK", error=failure)
    return msgspec.structs.replace(part, state=state)
