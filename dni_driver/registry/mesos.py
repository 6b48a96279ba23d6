# SPDX-License-Identifier: Apache-2.0
"""A registry that somebody else keeps: the overlays and the agent subnets that Mesos has given this host."""

from __future__ import annotations

from ipaddress import IPv4Address

from dni_driver.core.errors import Exhausted, InUse, Refused
from dni_driver.core.mesos_part import MesosPart, read_part
from dni_driver.core.overlays import AgentSubnet, Family, Overlay
from dni_driver.core.peers import Vtep
from dni_driver.registry.interface import Lease, agree, check_widening, unknown
from dni_driver.registry.mesos_agent import MesosAgent

_IN_MESOS = "add it to the overlay configuration of the Mesos masters, and restart them and this agent"
_DELETE = 'curl -X POST http://MASTER:5050/overlay-master/agents/delete -d \'{"agents": ["AGENT IP"]}\''


class MesosRegistry:
    """Knows this host alone. What Mesos does not do is refused with what to do instead; raises Unavailable."""

    def __init__(self, agent: MesosAgent) -> None:
        """Ask nothing yet."""
        self._agent = agent

    def part(self) -> MesosPart:
        """Answer what Mesos says now."""
        return read_part(self._agent.ask())

    def overlays(self) -> list[Overlay]:
        """Answer the overlays of which this host has a part, by name."""
        return list(self.part().overlays)

    def define(self, overlay: Overlay) -> None:
        """Agree to what Mesos has defined just so; raise Refused for anything else."""
        known = {other.name: other for other in self.part().overlays}
        same = known.get(overlay.name)
        if same is None:
            names = ", ".join(known)
            raise Refused(f"overlay {overlay.name!r} is not one of Mesos' ({names}): {_IN_MESOS}")
        if not agree(same, overlay):
            raise InUse(f"overlay {overlay.name!r} has other subnets in Mesos: use it as `dni overlay ls` shows it")

    def widen(self, overlay: Overlay) -> None:
        """Agree to a family that is there already; raise NotFound, InUse or Refused."""
        known = self.part().overlays
        check_widening(overlay, known)
        if not any(agree(other, overlay) for other in known):
            raise Refused(f"Mesos gives overlay {overlay.name!r} no second family: {_IN_MESOS}")

    def remove(self, name: str) -> None:
        """Raise Refused, or NotFound: Mesos keeps an overlay for as long as its masters are configured with it."""
        if name not in {overlay.name for overlay in self.part().overlays}:
            raise unknown(name)
        raise Refused(f"overlay {name!r} is Mesos': take it out of the overlay configuration of the Mesos masters")

    def lease(self, overlay: str, family: Family, agent_ip: IPv4Address) -> AgentSubnet:
        """Raise NotFound, Refused or Exhausted: Mesos gives an agent one subnet of each family, when it registers."""
        part = self.part()
        _check_named(part, agent_ip)
        if overlay not in {known.name for known in part.overlays}:
            raise unknown(overlay)
        raise Exhausted(
            f"Mesos gives agent {agent_ip} no more of overlay {overlay!r} (IPv{family}): an agent has one subnet, of "
            f"the size that `prefix` in the masters' overlay configuration says"
        )

    def confirm(self, held: AgentSubnet, agent_ip: IPv4Address, formerly: IPv4Address | None = None) -> None:
        """Agree to what Mesos gives; raise NotFound, Refused, or InUse where it gives another subnet now."""
        del formerly  # Mesos knows an agent by its address alone
        part = self.part()
        _check_named(part, agent_ip)
        if held in part.held:
            return
        now = [one.subnet for one in part.held if one.overlay == held.overlay and one.family == held.family]
        if held.overlay not in {known.name for known in part.overlays}:
            raise unknown(held.overlay)
        raise InUse(
            f"Mesos gives this agent {now[0] if now else 'nothing'} of it now, no longer {held.subnet}: stop its "
            f"containers, `docker network rm` its network, and create that again"
        )

    def leases(self, agent_ip: IPv4Address | None = None) -> list[Lease]:
        """Answer what this host holds; of other agents Mesos tells an agent nothing."""
        part = self.part()
        if agent_ip not in (None, part.agent_ip):
            return []
        return [Lease(agent_ip=part.agent_ip, held=one) for one in part.held]

    def give_back(self, held: AgentSubnet, agent_ip: IPv4Address) -> None:
        """Raise Refused for what this host holds: the leading master takes it back."""
        if Lease(agent_ip=agent_ip, held=held) in self.leases():
            raise Refused(f"agent subnet {held.subnet} is given by Mesos, which takes it back by {_DELETE}")

    def vtep(self) -> Vtep | None:
        """Answer the VTEP that Mesos has given this host, and dcos-net keeps."""
        return self.part().vtep

    def close(self) -> None:
        """Nothing is held open between calls."""


def _check_named(part: MesosPart, agent_ip: IPv4Address) -> None:
    if agent_ip != part.agent_ip:
        raise Refused(
            f'Mesos knows this host as {part.agent_ip}, dni as {agent_ip}: set agent.ip = "{part.agent_ip}"'
        )
