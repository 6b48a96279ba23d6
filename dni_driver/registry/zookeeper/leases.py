# SPDX-License-Identifier: Apache-2.0
"""Who holds which agent subnet: a node for each, beside the holder's record, made in one transaction with it."""

from __future__ import annotations

from collections.abc import Container

import msgspec

from dni_driver.core.overlays import Address, AgentSubnet, Family, agent_subnet, full, space_of
from dni_driver.registry.interface import Lease, check_shape, held_by, unknown, unknown_agent
from dni_driver.registry.zookeeper.damage import read_holder
from dni_driver.registry.zookeeper.ground import Ground, Known
from dni_driver.registry.zookeeper.layout import (
    AGENTS,
    ALIVE,
    OVERLAYS,
    SUBNETS,
    Definition,
    Record,
    Slice,
    check_given,
    nodes_of,
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

    def lease(self, overlay: str, family: Family, agent_ip: Address) -> AgentSubnet:
        """Give the lowest free agent subnet (Registry.lease)."""
        return self._ground.settled_in_turn(lambda turn: self._lease(overlay, family, agent_ip, turn))

    def confirm(self, held: AgentSubnet, agent_ip: Address, formerly: Address | None) -> None:
        """Record a lease that a store knows of (Registry.confirm)."""
        self._ground.settled(lambda: self._confirm(held, agent_ip, formerly))

    def give_back(self, held: AgentSubnet, agent_ip: Address) -> None:
        """End a lease (Registry.give_back)."""
        self._ground.settled(lambda: self._give_back(held, agent_ip))

    def every(self, agent_ip: Address | None) -> list[Lease]:
        """Answer who holds what (Registry.leases)."""
        self._ground.prepare()
        if agent_ip is not None:
            return [Lease(agent_ip=agent_ip, held=held) for held in self._held_by(agent_ip)]
        records = self._ground.records()
        names = self._ground.definitions()[0].names()
        return [
            Lease(agent_ip=agent, held=held)
            for agent, record in records.items()
            for held in subnets_of(record, names)
        ]

    def _held_by(self, agent_ip: Address) -> list[AgentSubnet]:
        """Answer what an agent holds by its record, and by the nodes that keep others from it: some may be lost."""
        nodes = nodes_of(self._ground.known(agent_ip).record, self._ground.definitions()[0])
        found = zip(nodes.values(), self._link.every(list(nodes)), strict=True)
        return [held for held, node in found if node is not None and node.data == _holder(agent_ip)]

    def _lease(self, name: str, family: Family, agent_ip: Address, turn: Turn) -> AgentSubnet:
        """Take the lowest; nothing is asked with a number in hand that could be asked before."""
        found = self._find(name)
        check_given(found.definition)
        overlay = found.definition.overlay()
        self._ground.make_room([of_agent(AGENTS, agent_ip)])
        mine = self._ground.known(agent_ip)
        if mine.version is None:
            raise unknown_agent(agent_ip)
        number = turn.number(Search(self._link, _numbered(found.definition, family)))
        if number is None:
            raise full(overlay, family)
        held = AgentSubnet(overlay=name, subnet=agent_subnet(overlay, family, number))
        changes = self._ground.transaction()
        self._add(changes, found, held, agent_ip, mine)
        turn.leave(changes)
        self._ground.commit(changes)
        turn.left()
        return held

    def _confirm(self, held: AgentSubnet, agent_ip: Address, formerly: Address | None) -> None:
        found = self._find(held.overlay)
        check_shape(held, found.definition.overlay())
        path = _path(found.definition, held)
        node = self._link.get(path)
        if node is None:
            check_given(found.definition)
            changes = self._ground.transaction()
            self._add(changes, found, held, agent_ip, self._ground.known(agent_ip))
            self._ground.commit(changes, path, of_agent(AGENTS, agent_ip))
        elif formerly is not None and node.data == _holder(formerly) != _holder(agent_ip) and self._is_gone(formerly):
            self._move(found.definition, node, held, (formerly, agent_ip))
        elif node.data != _holder(agent_ip):
            holder = read_holder(self._link.address, node.data, path)
            self._give_back(held, agent_ip)
            raise held_by(held, holder)
        else:
            self._note_held(found, node, held, agent_ip)

    def _note_held(self, found: _Found, node: Found, held: AgentSubnet, agent_ip: Address) -> None:
        """Have an agent's record name what it holds: the record may have been lost."""
        mine = self._ground.known(agent_ip)
        slice_ = _slice(found.definition, held)
        if slice_ in mine.record.subnets:
            return
        changes = self._ground.transaction()
        changes.check(_path(found.definition, held), node.version)
        self._put(changes, agent_ip, mine, (*mine.record.subnets, slice_), found.numbers)
        self._ground.commit(changes, of_agent(AGENTS, agent_ip))

    def _add(self, changes: Changes, found: _Found, held: AgentSubnet, agent_ip: Address, mine: Known) -> None:
        """Have a transaction give an agent what nobody has, while the overlays are what was found."""
        changes.check(OVERLAYS, found.version)
        changes.create(_path(found.definition, held), _holder(agent_ip))
        slice_ = _slice(found.definition, held)
        more = (*_less(mine.record, slice_), slice_)
        self._put(changes, agent_ip, mine, more, found.numbers)

    def _move(self, definition: Definition, node: Found, held: AgentSubnet, agents: tuple[Address, Address]) -> None:
        """Have the second agent hold what the first one held, who is not alive."""
        formerly, agent_ip = agents
        alive = of_agent(ALIVE, formerly)
        theirs, mine = self._ground.known(formerly), self._ground.known(agent_ip)
        slice_ = _slice(definition, held)
        numbers = self._ground.definitions()[0].names()
        changes = self._ground.transaction()
        # As in forgetting an agent: to make the node and to take it away says that it is not there.
        changes.create(alive)
        changes.delete(alive)
        changes.put(_path(definition, held), _holder(agent_ip), node.version)
        self._put(changes, formerly, theirs, _less(theirs.record, slice_), numbers)
        self._put(changes, agent_ip, mine, (*mine.record.subnets, slice_), numbers)
        self._ground.commit(changes, alive, of_agent(AGENTS, agent_ip))

    def _is_gone(self, agent_ip: Address) -> bool:
        return self._link.exists(of_agent(ALIVE, agent_ip)) is None

    def _give_back(self, held: AgentSubnet, agent_ip: Address) -> None:
        """End a lease; of what is another's, or nobody's, the agent's record is only to say nothing more."""
        definitions = self._ground.definitions()[0]
        definition = definitions.named(held.overlay)
        if definition is None or not _fits(definition, held):
            return
        mine, node = self._ground.known(agent_ip), self._link.get(_path(definition, held))
        left = _less(mine.record, _slice(definition, held))
        changes = self._ground.transaction()
        if node is not None and node.data == _holder(agent_ip):
            changes.delete(_path(definition, held), node.version)
        elif left == mine.record.subnets:
            return
        self._put(changes, agent_ip, mine, left, definitions.names())
        self._ground.commit(changes)

    def _put(
        self,
        changes: Changes,
        agent_ip: Address,
        known: Known,
        subnets: tuple[Slice, ...],
        numbers: Container[int],
    ) -> None:
        """Change what an agent holds; what it held of overlays that are gone goes on the way."""
        left = tuple(one for one in subnets if one.overlay in numbers)
        record = msgspec.structs.replace(known.record, subnets=left)
        self._ground.put_record(changes, agent_ip, record, known.version)

    def _find(self, name: str) -> _Found:
        definitions, version = self._ground.definitions()
        definition = definitions.named(name)
        if definition is None:
            raise unknown(name)
        return _Found(definition, version, frozenset(definitions.names()))


class _Found(msgspec.Struct, frozen=True):
    """An overlay, the version of all overlays' node when it was read, and the numbers of those there were."""

    definition: Definition
    version: int
    numbers: frozenset[int]


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


def _holder(agent_ip: Address) -> bytes:
    return str(agent_ip).encode()
