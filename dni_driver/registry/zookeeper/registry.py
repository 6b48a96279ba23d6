# SPDX-License-Identifier: Apache-2.0
"""The registry in ZooKeeper: one interface in front of its parts."""

from __future__ import annotations

from collections.abc import Callable, Collection
from ipaddress import IPv4Network

from dni_driver.core.addresses.counts import Counts, Told
from dni_driver.core.overlays import Address, AgentSubnet, Backend, Family, Overlay
from dni_driver.core.peers import Vtep
from dni_driver.core.registry_address import ZooKeeperAddress
from dni_driver.registry.access import Access
from dni_driver.registry.interface import Host, Lease, Member, News
from dni_driver.registry.zookeeper.agents import Agents
from dni_driver.registry.zookeeper.counts import AgentCounts
from dni_driver.registry.zookeeper.follower import Follower
from dni_driver.registry.zookeeper.ground import Ground
from dni_driver.registry.zookeeper.leases import Leases
from dni_driver.registry.zookeeper.link import Link
from dni_driver.registry.zookeeper.overlays import Overlays
from dni_driver.registry.zookeeper.removals import Removals
from dni_driver.registry.zookeeper.vteps import Vteps


class ZooKeeperRegistry:
    """Every method is described in Registry. While ZooKeeper is away each raises Unavailable within seconds."""

    def __init__(
        self, address: ZooKeeperAddress, access: Access, crash_point: Callable[[str], None] = lambda _: None
    ) -> None:
        """Begin to connect, without waiting for it."""
        self.link = Link(address, access, crash_point)
        self.ground = Ground(self.link)
        self._overlays = Overlays(self.ground)
        self._removals = Removals(self.ground)
        self._leases = Leases(self.ground)
        self._counts = AgentCounts(self.ground)
        self._agents = Agents(self.ground, self._counts)
        self._vteps = Vteps(self.ground)
        self._follower = Follower(self.ground)

    def overlays(self) -> list[Overlay]:
        """Answer all overlays, by name."""
        return self._overlays.every()

    def define(self, overlay: Overlay) -> None:
        """Record an overlay."""
        self._overlays.define(overlay)

    def widen(self, overlay: Overlay) -> None:
        """Give an overlay the family that it lacks."""
        self._overlays.widen(overlay)

    def set_backend(self, name: str, backend: Backend) -> None:
        """Have an overlay's packets travel in another way."""
        self._overlays.set_backend(name, backend)

    def use(self, agent_ip: Address, names: Collection[str]) -> None:
        """Say which overlays an agent uses now."""
        self._overlays.use(agent_ip, names)

    def begin_removal(self, name: str, agent_ip: Address) -> None:
        """Mark an overlay as leaving."""
        self._removals.begin(name, agent_ip)

    def leaving(self) -> dict[str, Address]:
        """Answer the overlays that are leaving, and who was told to remove them."""
        return self._removals.every()

    def keep(self, name: str, agent_ip: Address | None = None) -> None:
        """Have an overlay stay that is leaving."""
        self._removals.call_off(name, agent_ip)
        self._overlays.forget_told_uses()

    def end_removal(self, name: str) -> bool:
        """Forget an overlay that is leaving where nobody holds any of it."""
        return self._removals.end(name)

    def lease(self, overlay: str, family: Family, agent_ip: Address) -> AgentSubnet:
        """Give an agent one more agent subnet."""
        return self._leases.lease(overlay, family, agent_ip)

    def confirm(self, held: AgentSubnet, agent_ip: Address, formerly: Address | None = None) -> None:
        """Record that an agent holds this very subnet."""
        self._leases.confirm(held, agent_ip, formerly)

    def leases(self, agent_ip: Address | None = None) -> list[Lease]:
        """Answer who holds what."""
        return self._leases.every(agent_ip)

    def give_back(self, held: AgentSubnet, agent_ip: Address) -> None:
        """End a lease."""
        self._leases.give_back(held, agent_ip)

    def register(self, host: Host) -> Vtep:
        """Make a host an agent that is alive."""
        return self._agents.register(host)

    def widen_vteps(self, subnet: IPv4Network) -> None:
        """Have VTEPs come from a wider subnet."""
        self._vteps.widen(subnet)

    def members(self) -> list[Member]:
        """Answer all agents."""
        return self._agents.members()

    def alive(self) -> frozenset[Address]:
        """Answer which agents are alive."""
        return self._agents.alive()

    def news(self, seconds: float) -> News:
        """Answer what has changed since the last call."""
        return self._follower.news(seconds)

    def seen(self, agent_ip: Address) -> None:
        """Note that an agent has its wits about it."""
        self._agents.seen(agent_ip)

    def tell(self, agent_ip: Address, counts: Counts) -> None:
        """Say how full an agent is."""
        self._counts.tell(agent_ip, counts)

    def told(self, agents: Collection[Address]) -> dict[Address, Told]:
        """Answer what agents told."""
        return self._counts.told(agents)

    def forget(self, agent_ip: Address) -> None:
        """Forget an agent, and give up all it holds."""
        self._agents.forget(agent_ip)

    def reclaim(self) -> list[Address]:
        """Forget agents that were not seen for longer than they said."""
        return self._agents.reclaim()

    def close(self) -> None:
        """End the session: this agent is not alive any more."""
        self.link.close()
