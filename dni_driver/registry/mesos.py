# SPDX-License-Identifier: Apache-2.0
"""A registry that somebody else keeps: the overlays and the agent subnets that Mesos has given this host."""

from __future__ import annotations

import threading
from collections.abc import Collection
from ipaddress import IPv4Network

from dni_driver.core.addresses.counts import Counts, Told
from dni_driver.core.errors import Exhausted, InUse, Refused, Unavailable
from dni_driver.core.mesos.part import MesosPart, read_part
from dni_driver.core.overlays import Address, AgentSubnet, Backend, Family, Overlay
from dni_driver.core.peers import Vtep
from dni_driver.registry.interface import (
    Host,
    Lease,
    Member,
    News,
    agree,
    check_widening,
    stays,
    still_alive,
    unknown,
    with_backend,
)
from dni_driver.registry.mesos_agent import MesosAgent

_IN_MESOS = "add it to the overlay configuration of the Mesos masters, and restart them and this agent"
_DELETE = 'curl -X POST http://MASTER:5050/overlay-master/agents/delete -d \'{"agents": ["AGENT IP"]}\''


class MesosRegistry:
    """Knows this host alone. What Mesos does not do is refused with what to do instead; raises Unavailable."""

    def __init__(self, agent: MesosAgent) -> None:
        """Ask nothing yet."""
        self._agent = agent
        self._told = False
        self._closed = threading.Event()

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

    def begin_removal(self, name: str, agent_ip: Address) -> None:
        """Raise Refused, or NotFound: Mesos keeps an overlay for as long as its masters are configured with it."""
        del agent_ip  # whoever was told to
        if name not in {overlay.name for overlay in self.part().overlays}:
            raise unknown(name)
        raise Refused(f"overlay {name!r} is Mesos': take it out of the overlay configuration of the Mesos masters")

    def leaving(self) -> dict[str, Address]:
        """Answer none: Mesos has an overlay, or has it not."""
        return {}

    def keep(self, name: str, agent_ip: Address | None = None) -> None:
        """Agree for what Mesos has; raise NotFound."""
        del agent_ip  # whoever uses it
        self._named(name)

    def end_removal(self, name: str) -> bool:
        """Tell whether Mesos has it no more; raise InUse where it has."""
        if name in {overlay.name for overlay in self.part().overlays}:
            raise stays(name, ())
        return True

    def lease(self, overlay: str, family: Family, agent_ip: Address) -> AgentSubnet:
        """Raise NotFound, Refused or Exhausted: Mesos gives an agent one subnet of each family, when it registers."""
        part = self.part()
        _check_named(part, agent_ip)
        if overlay not in {known.name for known in part.overlays}:
            raise unknown(overlay)
        raise Exhausted(
            f"Mesos gives agent {agent_ip} no more of overlay {overlay!r} (IPv{family}): an agent has one subnet, of "
            f"the size that `prefix` in the masters' overlay configuration says"
        )

    def confirm(self, held: AgentSubnet, agent_ip: Address, formerly: Address | None = None) -> None:
        """Agree to what Mesos gives; raise NotFound, Refused, or InUse where it gives another subnet now."""
        del formerly  # Mesos knows an agent by its address alone
        part = self.part()
        _check_named(part, agent_ip)
        if held in part.held:
            return
        now = [one.subnet for one in part.held if one.overlay == held.overlay and one.family == held.family]
        if held.overlay not in {known.name for known in part.overlays}:
            raise unknown(held.overlay)
        raise InUse(f"Mesos gives this agent {now[0] if now else 'nothing'} of it now, no longer {held.subnet}")

    def leases(self, agent_ip: Address | None = None) -> list[Lease]:
        """Answer what this host holds; of other agents Mesos tells an agent nothing."""
        part = self.part()
        if agent_ip not in (None, part.agent_ip):
            return []
        return [Lease(agent_ip=part.agent_ip, held=one) for one in part.held]

    def give_back(self, held: AgentSubnet, agent_ip: Address) -> None:
        """Raise Refused for what this host holds: the leading master takes it back."""
        if Lease(agent_ip=agent_ip, held=held) in self.leases():
            raise Refused(f"agent subnet {held.subnet} is given by Mesos, which takes it back by {_DELETE}")

    def set_backend(self, name: str, backend: Backend) -> None:
        """Agree to what dcos-net does; raise NotFound, or Refused for another way."""
        if not any(agree(with_backend(name, backend, [known]), known) for known in self._named(name)):
            raise Refused(f"dcos-net carries the packets of overlay {name!r} by VXLAN, and in no other way")

    def use(self, agent_ip: Address, names: Collection[str]) -> None:
        """Do nothing: what is used here is of no interest to Mesos."""

    def register(self, host: Host) -> Vtep:
        """Answer the VTEP that Mesos has given this host; raise Refused, or Unavailable where it has given none."""
        part = self.part()
        _check_named(part, host.agent_ip)
        if part.vtep is None:
            raise Unavailable(f"Mesos has given agent {part.agent_ip} no VTEP: its overlays have no VXLAN backend")
        return part.vtep

    def widen_vteps(self, subnet: IPv4Network) -> None:
        """Agree to the subnet that Mesos takes them from; raise Refused for any other."""
        vtep = self.part().vtep
        if vtep is not None and vtep.ip.network != subnet:
            raise Refused(
                f"Mesos gives VTEPs of {vtep.ip.network}: leave overlay.vtep_subnet out, or change `vtep_subnet` in "
                f"the overlay configuration of the Mesos masters"
            )

    def members(self) -> list[Member]:
        """Answer this host: of others Mesos tells an agent nothing."""
        part = self.part()
        return [Member(agent_ip=part.agent_ip, vtep=part.vtep, subnets=part.held, alive=True, since=0.0)]

    def alive(self) -> frozenset[Address]:
        """Answer this host, as long as Mesos tells of it."""
        return frozenset([self.part().agent_ip])

    def news(self, seconds: float) -> News:
        """Answer once that there are no peers to reach, as dcos-net reaches them; then nothing, slowly."""
        if not self._told:
            self._told = True
            return News(whole=True)
        self._closed.wait(seconds)
        return News()

    def seen(self, agent_ip: Address) -> None:
        """Do nothing: Mesos reclaims nothing."""

    def tell(self, agent_ip: Address, counts: Counts) -> None:
        """Do nothing: Mesos passes on nothing of the sort."""

    def told(self, agents: Collection[Address]) -> dict[Address, Told]:
        """Raise Refused: of other agents Mesos tells an agent nothing."""
        del agents  # whoever they are
        raise Refused("Mesos tells an agent of no other: ask each at its own (dni overlay usage)")

    def forget(self, agent_ip: Address) -> None:
        """Raise InUse for this host, and Refused for any other: that is the leading master's."""
        if agent_ip == self.part().agent_ip:
            raise still_alive(agent_ip)
        raise Refused(f"agents of Mesos are forgotten by the leading master: {_DELETE}")

    def reclaim(self) -> list[Address]:
        """Answer none: Mesos reclaims nothing by itself."""
        return []

    def close(self) -> None:
        """Let nobody wait for news any more."""
        self._closed.set()

    def _named(self, name: str) -> list[Overlay]:
        """Answer one overlay; raise NotFound."""
        found = [overlay for overlay in self.part().overlays if overlay.name == name]
        if not found:
            raise unknown(name)
        return found


def _check_named(part: MesosPart, agent_ip: Address) -> None:
    if agent_ip != part.agent_ip:
        raise Refused(
            f'Mesos knows this host as {part.agent_ip}, dni as {agent_ip}: set agent.ip = "{part.agent_ip}"'
        )
