# SPDX-License-Identifier: Apache-2.0
"""What lies where in ZooKeeper, and how it is written.

    format                      the version of all this: 1 where agents have IPv4 addresses, 2 where IPv6 ones
    overlays                    every overlay, each with a number that no other ever has; who is removing it, if any
    agents/SHARD/IP             an agent: identity, VTEP, agent subnets
    alive/SHARD/IP              ephemeral: who says so
    seen/SHARD/IP               written again and again, for the time that ZooKeeper notes
    counts/SHARD/IP             how full it is and what is wrong, as it told last; read when asked for, not watched
    vteps                       the subnet that VTEPs come from; nothing: 44.128.0.0/20
    vteps/SHARD/ADDRESS         who has a VTEP
    subnets/NUMBER/SHARD/SUBNET who holds an agent subnet of the overlay of that number
    uses/NUMBER/SHARD/IP        who uses that overlay
    journal/e-SEQUENCE          what changed, in order
    digests/SHARD               all records of a shard at once, as of a place in the journal
    line/vteps/q-SEQUENCE       ephemeral: who waits to take the lowest VTEP that is free, and which that is
    line/subnets/NUMBER/vFAMILY/q-SEQUENCE  likewise for the agent subnets of an overlay
    reclaimer                   ephemeral: who looks for agents to reclaim

With 10,000 agents hardly anything has more than a thousand children: a shard of agents some 156 (10,000 in 64), one
of VTEPs or subnets 256 at the most, the journal 1,152 (journal.py); and nobody lists them all when something changes.
A line alone is as long as there are who wait in it: the names of 10,000 are 160 kB, of the MB that ZooKeeper answers.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network, ip_address, ip_network
from zlib import crc32

import msgspec

from dni_driver.core.overlays import FAMILIES, Address, AgentSubnet, Backend, Family, Network, Overlay, family_of
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.removal import being_removed

VERSIONS: dict[Family, int] = {4: 1, 6: 2}
"""By the family of the agents' addresses: of IPv6 ones a dni that knows version 1 alone could make nothing."""
OTHER_VTEPS = 2
"""Added where VTEPs come from another subnet than DC/OS's: an older dni would take them from that all the same."""
LEAVING = 4
"""Added while an overlay is leaving: an older dni would take of it, and lose that it is."""
VERSION = max(VERSIONS.values()) + OTHER_VTEPS + LEAVING

FORMAT = "format"
OVERLAYS = "overlays"
AGENTS = "agents"
ALIVE = "alive"
SEEN = "seen"
COUNTS = "counts"
VTEPS = "vteps"
SUBNETS = "subnets"
USES = "uses"
JOURNAL = "journal"
RECLAIMER = "reclaimer"
LINE = "line"
DIGESTS = "digests"

FOLDERS = (AGENTS, ALIVE, SEEN, VTEPS, SUBNETS, USES, JOURNAL, LINE)

SHARDS = 64
"""Of agents: with ten thousand of them some hundred and fifty in each."""

SHARD_BITS = 8
"""Of subnets and VTEPs, which are numbered: those whose numbers differ in these bits alone are in one."""


class Slice(msgspec.Struct, frozen=True, array_like=True):
    """An agent subnet in an agent's record: the number of its overlay, and itself."""

    overlay: int
    subnet: str


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is recorded of an agent."""

    identity: str | None = None
    vtep: str | None = None
    subnets: tuple[Slice, ...] = ()
    reclaim_after: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where addresses are none."""
        vtep_of(self)
        for one in self.subnets:
            ip_network(one.subnet)


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An overlay as it is recorded; `leaving`: the agent that was told to remove it."""

    number: int
    name: str
    subnet: str | None = None
    prefix: int | None = None
    subnet6: str | None = None
    prefix6: int | None = None
    backend: Backend = "vxlan"
    leaving: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where addresses are none, or subnets not cut up by their prefixes."""
        self.remover()
        overlay = self.overlay()
        for family in FAMILIES:
            space = overlay.space(family)
            if space is not None and not space[0].prefixlen <= space[1] <= space[0].max_prefixlen:
                raise ValueError(f"{space[0]} has no agent subnets of /{space[1]}")

    def overlay(self) -> Overlay:
        """Answer what it means."""
        return Overlay(
            name=self.name,
            subnet=IPv4Network(self.subnet) if self.subnet else None,
            prefix=self.prefix,
            subnet6=IPv6Network(self.subnet6) if self.subnet6 else None,
            prefix6=self.prefix6,
            backend=self.backend,
        )

    def remover(self) -> Address | None:
        """Answer the agent that was told to remove it."""
        return ip_address(self.leaving) if self.leaving is not None else None


class Definitions(msgspec.Struct, frozen=True, kw_only=True):
    """The overlays there are, and the number of the next."""

    following: int = 1
    overlays: tuple[Definition, ...] = ()

    def every(self) -> list[Overlay]:
        """Answer the overlays by name."""
        return sorted((one.overlay() for one in self.overlays), key=lambda overlay: overlay.name)

    def named(self, name: str) -> Definition | None:
        """Answer one of them."""
        return next((one for one in self.overlays if one.name == name), None)

    def names(self) -> dict[int, str]:
        """Answer the names by the numbers."""
        return {one.number: one.name for one in self.overlays}

    def leaving(self) -> dict[str, Address]:
        """Answer who was told to remove which, by name."""
        return {one.name: remover for one in self.overlays if (remover := one.remover()) is not None}

    def marked(self, name: str, remover: Address | None) -> Definitions:
        """Answer them with one that is leaving by the word of that agent, or that is not."""
        text = str(remover) if remover is not None else None
        changed = (msgspec.structs.replace(one, leaving=text) if one.name == name else one for one in self.overlays)
        return Definitions(following=self.following, overlays=tuple(changed))

    def with_one(self, overlay: Overlay) -> Definitions:
        """Answer them with one more, or with another definition of one."""
        known = self.named(overlay.name)
        new = _definition(overlay, known.number if known else self.following)
        others = tuple(one for one in self.overlays if one is not known)
        return Definitions(following=self.following + (known is None), overlays=(*others, new))

    def without(self, name: str) -> Definitions:
        """Answer them less one."""
        left = tuple(one for one in self.overlays if one.name != name)
        return Definitions(following=self.following, overlays=left)


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An entry of the journal: an agent and its new record (None: forgotten), or that the overlays are others."""

    agent: str | None = None
    record: Record | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where the agent IP is none."""
        if self.agent is not None:
            ip_address(self.agent)


def _definition(overlay: Overlay, number: int) -> Definition:
    return Definition(
        number=number,
        name=overlay.name,
        subnet=str(overlay.subnet) if overlay.subnet else None,
        prefix=overlay.prefix,
        subnet6=str(overlay.subnet6) if overlay.subnet6 else None,
        prefix6=overlay.prefix6,
        backend=overlay.backend,
    )


def check_given(definition: Definition | None) -> None:
    """Raise InUse where an overlay is leaving: nobody gets any of it, and nothing about it changes."""
    remover = definition.remover() if definition is not None else None
    if definition is not None and remover is not None:
        raise being_removed(definition.name, remover)


def has_other_vteps(version: int) -> bool:
    """Tell whether a version says that VTEPs come from another subnet than DC/OS's."""
    return bool((version - 1) & OTHER_VTEPS)


def while_leaving(version: int, *, is_leaving: bool) -> int:
    """Answer a version as it is while an overlay is leaving, or while none is."""
    less = (version - 1) & ~LEAVING
    return 1 + (less | LEAVING if is_leaving else less)


def encode(value: msgspec.Struct) -> bytes:
    """Write a value as it is kept."""
    return msgspec.json.encode(value)


def of_agent(folder: str, agent_ip: Address) -> str:
    """Answer where something of an agent lies, below `folder`."""
    return f"{folder}/{shard_of_agent(agent_ip):02d}/{agent_ip}"


def shard_of_agent(agent_ip: Address) -> int:
    """Answer in which shard an agent is."""
    return crc32(agent_ip.packed) % SHARDS


def of_vtep(vtep: IPv4Interface) -> str:
    """Answer where it says who has a VTEP."""
    return f"{VTEPS}/{_shard(vtep.ip, vtep.network)}/{vtep.ip}"


def of_subnet(number: int, subnet: Network, space: Network) -> str:
    """Answer where it says who holds an agent subnet of the overlay of a number."""
    name = f"{subnet.network_address}-{subnet.prefixlen}"
    return f"{SUBNETS}/{number}/{_shard_of_subnet(subnet, space)}/{name}"


def of_overlay(folder: str, number: int) -> str:
    """Answer where something of an overlay lies, below `folder`."""
    return f"{folder}/{number}"


def use_of(number: int, agent_ip: Address) -> str:
    """Answer where it says that an agent uses the overlay of a number."""
    return of_agent(of_overlay(USES, number), agent_ip)


def read_subnet(name: str) -> Network:
    """Answer which agent subnet a name stands for."""
    return ip_network(name.replace("-", "/"))


def _shard(address: IPv4Address, space: IPv4Network) -> str:
    return f"{(int(address) - int(space.network_address)) >> SHARD_BITS:x}"


def number_of_subnet(subnet: Network, space: Network) -> int:
    """Answer which agent subnet it is of all that an overlay has, counted from 0."""
    return (int(subnet.network_address) - int(space.network_address)) >> (subnet.max_prefixlen - subnet.prefixlen)


def _shard_of_subnet(subnet: Network, space: Network) -> str:
    return f"v{subnet.version}-{number_of_subnet(subnet, space) >> SHARD_BITS:x}"


def subnets_of(record: Record, names: dict[int, str]) -> tuple[AgentSubnet, ...]:
    """Answer what an agent holds of the overlays that there are."""
    return tuple(
        AgentSubnet(overlay=names[one.overlay], subnet=ip_network(one.subnet))
        for one in record.subnets
        if one.overlay in names
    )


def nodes_of(record: Record, definitions: Definitions) -> dict[str, AgentSubnet]:
    """Answer the nodes of what an agent holds of the overlays that there are, with what each says is held."""
    known = {one.number: one for one in definitions.overlays}
    found = {}
    for definition, subnet in ((known.get(one.overlay), read_subnet(one.subnet)) for one in record.subnets):
        space = definition.overlay().space(family_of(subnet)) if definition is not None else None
        if definition is not None and space is not None:
            held = AgentSubnet(overlay=definition.name, subnet=subnet)
            found[of_subnet(definition.number, subnet, space[0])] = held
    return found


def vtep_of(record: Record) -> Vtep | None:
    """Answer an agent's VTEP; None for one that never registered."""
    return Vtep(IPv4Interface(record.vtep)) if record.vtep else None


def peer_of(agent_ip: Address, record: Record, names: dict[int, str]) -> Peer | None:
    """Answer an agent as others reach it; None where they cannot yet."""
    vtep = vtep_of(record)
    return Peer(agent_ip=agent_ip, vtep=vtep, subnets=subnets_of(record, names)) if vtep else None
