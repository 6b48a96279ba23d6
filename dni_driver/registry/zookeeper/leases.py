# SPDX-License-Identifier: Apache-2.0
"""Who holds which agent subnet: a node for each, beside the holder's record, made in one transaction with it."""

from __future__ import annotations

from ipaddress import IPv4Address

import msgspec

from dni_driver.core.overlays import AgentSubnet, Family, agent_subnet, full, space_of
from dni_driver.registry.interface import Lease, check_shape, held_by, unknown
from dni_driver.registry.zookeeper.ground import Ground, Known
from dni_driver.registry.zookeeper.layout import (
    AGENTS,
    OVERLAYS,
    SUBNETS,
    Definition,
    Record,
    Slice,
    number_of_subnet,
    of_agent,
    of_overlay,
    of_subnet,
    read_subnet,
    subnets_of,
)
from dni_driver.registry.zookeeper.link import Changes, Found
from dni_driver.registry.zookeeper.numbers import Numbered, Search
from dni_driver.registry.zookeeper.turn import Turn


class Leases:
    """Gives, takes, and tells."""

    def __init__(self, ground: Ground) -> None:
        """Take what it stands on."""
        self._ground = ground
        self._link = ground.link

    def lease(self, overlay: str, family: Family, agent_ip: IPv4Address) -> AgentSubnet:
        """Give the lowest free agent subnet (Registry.lease)."""
        return self._ground.settled_in_turn(lambda turn: self._lease(overlay, family, agent_ip, turn))

    def confirm(self, held: AgentSubnet, agent_ip: IPv4Address, formerly: IPv4Address | None) -> None:
        """Record a lease that a store knows of (Registry.confirm)."""
        self._ground.settled(lambda: self._confirm(held, agent_ip, formerly))

    def give_back(self, held: AgentSubnet, agent_ip: IPv4Address) -> None:
        """End a lease (Registry.give_back)."""
        self._ground.settled(lambda: self._give_back(held, agent_ip))

    def every(self, agent_ip: IPv4Address | None) -> list[Lease]:
        """Answer who holds what (Registry.leases)."""
        self._ground.prepare()
        records = self._ground.records() if agent_ip is None else {agent_ip: self._ground.known(agent_ip).record}
        names = self._ground.definitions()[0].names()
        return [
            Lease(agent_ip=agent, held=held)
            for agent, record in records.items()
            for held in subnets_of(record, names)
        ]

    def _lease(self, name: str, family: Family, agent_ip: IPv4Address, turn: Turn) -> AgentSubnet:
        definition, version = self._find(name)
        search = Search(self._link, _numbered(definition, family))
        search.prepare()
        turn.wait()
        number = search.lowest()
        if number is None:
            raise full(definition.overlay(), family)
        held = AgentSubnet(overlay=name, subnet=agent_subnet(definition.overlay(), family, number))
        self._add(definition, version, held, agent_ip, turn)
        return held

    def _confirm(self, held: AgentSubnet, agent_ip: IPv4Address, formerly: IPv4Address | None) -> None:
        definition, version = self._find(held.overlay)
        check_shape(held, definition.overlay())
        node = self._link.get(_path(definition, held))
        if node is None:
            self._add(definition, version, held, agent_ip, Turn(self._link))
        elif formerly is not None and node.data == _holder(formerly) != _holder(agent_ip):
            self._move(definition, node, held, (formerly, agent_ip))
        elif node.data != _holder(agent_ip):
            raise held_by(held, node.data.decode())

    def _add(
        self, definition: Definition, version: int, held: AgentSubnet, agent_ip: IPv4Address, turn: Turn
    ) -> None:
        path = _path(definition, held)
        mine = self._ground.known(agent_ip)
        changes = self._link.transaction()
        changes.check(OVERLAYS, version)
        changes.create(path, _holder(agent_ip))
        self._put(changes, agent_ip, mine, (*mine.record.subnets, _slice(definition, held)))
        turn.leave(changes)
        self._ground.commit(changes, path, of_agent(AGENTS, agent_ip))
        turn.left()

    def _move(
        self, definition: Definition, node: Found, held: AgentSubnet, agents: tuple[IPv4Address, IPv4Address]
    ) -> None:
        """Have the second agent hold what the first one held."""
        formerly, agent_ip = agents
        theirs, mine = self._ground.known(formerly), self._ground.known(agent_ip)
        slice_ = _slice(definition, held)
        changes = self._link.transaction()
        changes.put(_path(definition, held), _holder(agent_ip), node.version)
        self._put(changes, formerly, theirs, _less(theirs.record, slice_))
        self._put(changes, agent_ip, mine, (*mine.record.subnets, slice_))
        self._ground.commit(changes, of_agent(AGENTS, agent_ip))

    def _give_back(self, held: AgentSubnet, agent_ip: IPv4Address) -> None:
        definition = self._ground.definitions()[0].named(held.overlay)
        node = self._link.get(_path(definition, held)) if definition and _fits(definition, held) else None
        if definition is None or node is None or node.data != _holder(agent_ip):
            return
        mine = self._ground.known(agent_ip)
        changes = self._link.transaction()
        changes.delete(_path(definition, held), node.version)
        self._put(changes, agent_ip, mine, _less(mine.record, _slice(definition, held)))
        self._ground.commit(changes)

    def _put(self, changes: Changes, agent_ip: IPv4Address, known: Known, subnets: tuple[Slice, ...]) -> None:
        """Change what an agent holds; what it held of overlays that are gone goes on the way."""
        numbers = self._ground.definitions()[0].names()
        left = tuple(one for one in subnets if one.overlay in numbers)
        record = msgspec.structs.replace(known.record, subnets=left)
        self._ground.put_record(changes, agent_ip, record, known.version)

    def _find(self, name: str) -> tuple[Definition, int]:
        definitions, version = self._ground.definitions()
        definition = definitions.named(name)
        if definition is None:
            raise unknown(name)
        return definition, version


def _numbered(definition: Definition, family: Family) -> Numbered:
    space = space_of(definition.overlay(), family)
    return Numbered(
        folder=of_overlay(SUBNETS, definition.number),
        prefix=f"v{family}-",
        first=0,
        last=(1 << (space[1] - space[0].prefixlen)) - 1,
        number_of=lambda name: number_of_subnet(read_subnet(name), space[0]),
    )


def _path(definition: Definition, held: AgentSubnet) -> str:
    return of_subnet(definition.number, held.subnet, space_of(definition.overlay(), held.family)[0])


def _fits(definition: Definition, held: AgentSubnet) -> bool:
    return definition.overlay().space(held.family) is not None


def _slice(definition: Definition, held: AgentSubnet) -> Slice:
    return Slice(definition.number, str(held.subnet))


def _less(record: Record, slice_: Slice) -> tuple[Slice, ...]:
    return tuple(one for one in record.subnets if one != slice_)


def _holder(agent_ip: IPv4Address) -> bytes:
    return str(agent_ip).encode()
