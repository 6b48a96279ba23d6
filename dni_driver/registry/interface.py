# SPDX-License-Identifier: Apache-2.0
"""What every registry can do, and the rules they share."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Network
from typing import Protocol

import msgspec

from dni_driver.core.addresses.counts import Counts, Told
from dni_driver.core.errors import InUse, NoAgent, NotFound, Refused
from dni_driver.core.overlays import FAMILIES, Address, AgentSubnet, Backend, Family, Overlay, check_no_overlap
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.removal import called_off, named


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """An agent subnet and the agent that holds it. It lasts until it is given back."""

    agent_ip: Address
    held: AgentSubnet


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A host that is to be an agent.

    `identity` is its store's, and `boot` that of its running system: by the two, two hosts are told apart that have
    one address or one disk. `formerly` is the agent IP it had before, `vtep` the one it had. `reclaim_after`: who has
    not seen it for so many seconds may give its agent subnets to others; None for never. `vtep_subnet` is where VTEPs
    come from in a registry that has none yet; None for where they always did.
    """

    agent_ip: Address
    identity: str
    boot: str
    formerly: Address | None = None
    vtep: Vtep | None = None
    reclaim_after: float | None = None
    vtep_subnet: IPv4Network | None = None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that the registry knows: alive since, or last seen, in seconds since 1970."""

    agent_ip: Address
    vtep: Vtep | None
    subnets: tuple[AgentSubnet, ...]
    alive: bool
    since: float


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What has changed.

    `peers` are agents as they are now, `gone` those that are forgotten. `whole`: it is all there is, and whoever is
    not among the peers is gone as well. `overlays`: some overlay came, went, or is another now.
    """

    peers: tuple[Peer, ...] = ()
    gone: frozenset[Address] = frozenset()
    whole: bool = False
    overlays: bool = False

    def __bool__(self) -> bool:
        """Tell whether anything has changed."""
        return self != News()


class Registry(Protocol):
    """Each method is one transaction: done or not done, whatever dies meanwhile.

    Any method raises StoreError or Unavailable where the registry cannot be used.
    """

    def overlays(self) -> list[Overlay]:
        """Answer all overlays, by name."""

    def define(self, overlay: Overlay) -> None:
        """Record an overlay; once more is no error.

        Raises InUse where the name stands for something else, or another overlay has some of the addresses, also one
        that is leaving.
        """

    def widen(self, overlay: Overlay) -> None:
        """Give an overlay the family that it lacks; once more is no error.

        Raises NotFound for an unknown overlay, InUse where it is defined otherwise or leaving, or another overlay has
        some of the addresses.
        """

    def set_backend(self, name: str, backend: Backend) -> None:
        """Have an overlay's packets travel in another way from now on; raise NotFound, InUse where it is leaving."""

    def use(self, agent_ip: Address, names: Collection[str]) -> None:
        """Say which overlays an agent uses now, and by that that it uses no other; unknown ones are no error.

        Raises NotFound for who is no agent: nobody could ever take that back.
        """

    def begin_removal(self, name: str, agent_ip: Address) -> None:
        """Mark an overlay as leaving, as an agent was told to; once more is no error.

        From then on nobody gets any of it, and nothing about it changes; who holds some gives it back, or keeps it.
        Raises NotFound, or InUse naming the agents that use it, or that hold some, are not alive, and may use it.
        """

    def leaving(self) -> dict[str, Address]:
        """Answer the overlays that are leaving, by name, and the agents that were told to remove them."""

    def keep(self, name: str, agent_ip: Address | None = None) -> None:
        """Have an overlay stay that is leaving, if it is; `agent_ip` is who uses it. Raises NotFound."""

    def end_removal(self, name: str) -> bool:
        """Forget an overlay that is leaving where nobody holds any of it; tell whether it is gone.

        Raises InUse, naming the agents that use it, where it is to stay.
        """

    def lease(self, overlay: str, family: Family, agent_ip: Address) -> AgentSubnet:
        """Give an agent one more agent subnet, the lowest that is free.

        Raises NotFound for an unknown overlay and for who is no agent, Refused where the overlay does not speak the
        family, Exhausted where all are held, InUse where it is leaving.
        """

    def confirm(self, held: AgentSubnet, agent_ip: Address, formerly: Address | None = None) -> None:
        """Record that an agent holds this very subnet, as its store says; once more is no error.

        `formerly` is the address under which the same agent held it before its own changed; where another host lives
        there now, it is that one's. Raises NotFound for an unknown overlay, Refused for a subnet that is none of its
        agent subnets, InUse, naming the holder, where another agent has it, and where nobody has it and the overlay
        is leaving.
        """

    def leases(self, agent_ip: Address | None = None) -> list[Lease]:
        """Answer who holds what: of one agent in the order it was leased, or of all, agent by agent."""

    def give_back(self, held: AgentSubnet, agent_ip: Address) -> None:
        """End a lease; one that this agent does not hold is left alone."""

    def register(self, host: Host) -> Vtep:
        """Make a host an agent that is alive, and answer its VTEP; once more is no error.

        It is alive until the registry is closed, or has not heard of it for some seconds. An agent keeps its VTEP,
        and a new one has the lowest that is free; one with a new address takes along what it held. Raises InUse
        where another living host has its address or its identity, Exhausted where no VTEP is free. All VTEPs have
        the mask of the subnet that they come from: the first agent's, until it is widened.
        """

    def widen_vteps(self, subnet: IPv4Network) -> None:
        """Have the VTEPs of all agents come from a wider subnet, or from the one that they do; all keep theirs.

        Raises Refused for any other, InUse where an overlay has addresses of it.
        """

    def members(self) -> list[Member]:
        """Answer all agents, by their IP."""

    def alive(self) -> frozenset[Address]:
        """Answer which agents are alive; cheaper than all that `members` tells of them."""

    def news(self, seconds: float) -> News:
        """Answer what has changed since the last call, as soon as something has; the first call answers all.

        Waits so many seconds at the most, and ends at once where the registry is closed. For one thread alone.
        """

    def seen(self, agent_ip: Address) -> None:
        """Note that an agent has its wits about it: it is not reclaimed for as long as it has said."""

    def tell(self, agent_ip: Address, counts: Counts) -> None:
        """Say how full an agent is and what is wrong, until it says otherwise or is forgotten.

        The same once more writes nothing. Raises NotFound for an agent that is not registered.
        """

    def told(self, agents: Collection[Address]) -> dict[Address, Told]:
        """Answer what some agents told last, those that told anything.

        Raises Refused where an agent hears nothing of others.
        """

    def forget(self, agent_ip: Address) -> None:
        """Forget an agent, and give up all it holds; raise NotFound, or InUse where it is alive."""

    def reclaim(self) -> list[Address]:
        """Forget agents that were not seen for longer than they said; answer them."""

    def close(self) -> None:
        """Let go of files and connections; who waits for news waits no longer."""


def is_defined(overlay: Overlay, known: Iterable[Overlay]) -> bool:
    """Tell whether an overlay is defined just so; raise InUse where its name or addresses are taken."""
    others = {other.name: other for other in known}
    same = others.pop(overlay.name, None)
    if same is None:
        check_no_overlap(overlay, others.values())
        return False
    if not agree(same, overlay):
        raise _otherwise(same)
    return True


def check_widening(overlay: Overlay, known: Iterable[Overlay]) -> None:
    """Raise NotFound or InUse unless an overlay is one that is known, with a family more, or none."""
    others = {other.name: other for other in known}
    same = others.pop(overlay.name, None)
    if same is None:
        raise unknown(overlay.name)
    if not includes(overlay, same) or same.backend != overlay.backend:
        raise _otherwise(same)
    check_no_overlap(overlay, others.values())


def _otherwise(same: Overlay) -> InUse:
    return InUse(
        f"overlay {same.name!r} exists already, with {describe(same)}: choose another name, or remove it "
        f"first (`dni overlay rm {same.name}`)"
    )


def agree(one: Overlay, other: Overlay) -> bool:
    """Tell whether two definitions mean the same."""
    return includes(one, other) and includes(other, one) and one.backend == other.backend


def includes(wide: Overlay, narrow: Overlay) -> bool:
    """Tell whether a definition has all the subnets of another, cut up in the same way."""
    return all(narrow.space(family) in (None, wide.space(family)) for family in FAMILIES)


def describe(overlay: Overlay) -> str:
    """Say what an overlay is made of: `9.0.0.0/8 in agent subnets of /24, backend vxlan`."""
    spaces = (space for family in FAMILIES if (space := overlay.space(family)))
    parts = [f"{subnet} in agent subnets of /{prefix}" for subnet, prefix in spaces]
    return f"{' and '.join(parts)}, backend {overlay.backend}"


def with_backend(name: str, backend: Backend, known: Iterable[Overlay]) -> Overlay:
    """Answer an overlay with another backend; raise NotFound."""
    for overlay in known:
        if overlay.name == name:
            return msgspec.structs.replace(overlay, backend=backend)
    raise unknown(name)


def check_shape(held: AgentSubnet, overlay: Overlay) -> None:
    """Raise Refused where a subnet is none of an overlay's agent subnets."""
    space = overlay.space(held.family)
    # The overlap of a longer with a shorter prefix is containment.
    if space is None or held.subnet.prefixlen != space[1] or not held.subnet.overlaps(space[0]):
        raise Refused(f"{held.subnet} is no agent subnet of overlay {overlay.name!r}")


def held_by(held: AgentSubnet, holder: Address | str) -> InUse:
    """Build the error of an agent subnet that another agent has."""
    return InUse(f"agent subnet {held.subnet} of overlay {held.overlay!r} is held by agent {holder}")


def used_by(name: str, agents: Collection[Address]) -> InUse:
    """Build the error of an overlay that some agents use."""
    return InUse(
        f"overlay {name!r} is in use on {named(agents)}: remove its containers and Docker networks there first, and "
        f"if that was a moment ago, try again; a host that is gone for good is given up by `dni agent forget IP`"
    )


def stays(name: str, agents: Collection[Address]) -> InUse:
    """Build the error of a removal that has come to nothing, by those who use the overlay or somebody's word."""
    return used_by(name, agents) if agents else called_off(name)


def not_to_be_asked(name: str, agents: Collection[Address]) -> InUse:
    """Build the error of an overlay that some agents have addresses of, and nobody can ask whether they use them."""
    return InUse(
        f"overlay {name!r} may be in use on {named(agents)}, from where nothing is heard: start dni there first; a "
        f"host that is gone for good is given up by `dni agent forget IP`"
    )


def unknown_agent(agent_ip: Address) -> NoAgent:
    """Build the error of an agent that the registry does not have."""
    return NoAgent(f"there is no agent {agent_ip} in the registry: `dni agent ls` lists them")


def still_alive(agent_ip: Address) -> InUse:
    """Build the error of an agent that is to be forgotten and lives."""
    return InUse(f"agent {agent_ip} is alive: stop dni on that host first, and wait until `dni agent ls` says so")


def unknown(name: str) -> NotFound:
    """Build the error of an overlay that the registry does not have."""
    return NotFound(f"there is no overlay {name!r} in the registry: `dni overlay ls` lists them")
