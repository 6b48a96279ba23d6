# SPDX-License-Identifier: Apache-2.0
"""The agents: who is one, which VTEP it has, whether it is alive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import msgspec

from dni_driver.core.data_plane.vteps import vtep_in
from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.overlays import Address
from dni_driver.core.peers import Vtep
from dni_driver.registry.admission import Life, check_address, check_move, moves
from dni_driver.registry.interface import Host, Member, still_alive, unknown_agent
from dni_driver.registry.zookeeper.counts import AgentCounts
from dni_driver.registry.zookeeper.damage import damaged, understood
from dni_driver.registry.zookeeper.ground import Ground, Known
from dni_driver.registry.zookeeper.layout import (
    AGENTS,
    ALIVE,
    COUNTS,
    RECLAIMER,
    SEEN,
    USES,
    Record,
    encode,
    nodes_of,
    of_agent,
    of_overlay,
    of_vtep,
    subnets_of,
    vtep_of,
)
from dni_driver.registry.zookeeper.link import Changes, Conflict
from dni_driver.registry.zookeeper.turn import Turn
from dni_driver.registry.zookeeper.vteps import Range, Vteps

_MILLISECONDS = 1000.0


class Sign(msgspec.Struct, frozen=True):
    """The sign of life of an agent IP, if there is one, and whether this very session gives it."""

    life: Life | None
    is_ours: bool


class Agents:
    """Registers, tells and forgets."""

    def __init__(self, ground: Ground, counts: AgentCounts) -> None:
        """Take what it stands on; `counts` are forgotten with their agents."""
        self._ground = ground
        self._link = ground.link
        self._counts = counts
        self._vteps = Vteps(ground)

    def register(self, host: Host) -> Vtep:
        """Make a host an agent that is alive (Registry.register)."""
        return self._ground.settled_in_turn(lambda turn: self._register(host, turn))

    def members(self) -> list[Member]:
        """Answer all agents (Registry.members)."""
        self._ground.prepare()
        names = self._ground.definitions()[0].names()
        records = self._ground.records()
        alive = self._alive()
        since = self._since(records, alive)
        return [
            Member(
                agent_ip=agent,
                vtep=vtep_of(record),
                subnets=subnets_of(record, names),
                alive=agent in alive,
                since=since.get(agent, 0.0),
            )
            for agent, record in records.items()
        ]

    def alive(self) -> frozenset[Address]:
        """Answer which agents are alive, by names alone (Registry.alive)."""
        self._ground.prepare()
        return self._alive()

    def seen(self, agent_ip: Address) -> None:
        """Have ZooKeeper note the time (Registry.seen)."""
        self._ground.settled(lambda: self._see(agent_ip))

    def forget(self, agent_ip: Address) -> None:
        """Forget an agent and what it holds (Registry.forget)."""
        self._ground.settled(lambda: self._forget(agent_ip))

    def reclaim(self) -> list[Address]:
        """Forget agents that were not seen for longer than they said, if nobody else is at it (Registry.reclaim)."""
        self._ground.prepare()
        if not self._is_reclaimer():
            return []
        records = self._ground.records()
        alive = self._alive()
        terms = {agent: record.reclaim_after for agent, record in records.items() if agent not in alive}
        gone = [agent for agent, term in terms.items() if term is not None]
        seen = self._stats(SEEN, gone)
        now = self._now()
        if now is None:
            return []
        for agent in gone:
            if agent not in seen:
                self._begin_term(agent)
        due = [agent for agent in seen if now - _seconds(seen[agent].mtime) > (terms[agent] or 0.0)]
        return [agent for agent in due if self._is_forgotten(agent, seen[agent].version)]

    def _register(self, host: Host, turn: Turn) -> Vtep:
        known = self._vteps.range(host)
        mine = self._ground.known(host.agent_ip)
        sign = self._sign(host.agent_ip)
        if not sign.is_ours:
            check_address(host, sign.life)
        formerly = moves(host)
        if formerly is not None:
            theirs = self._ground.known(formerly)
            is_ours = theirs.record.identity == host.identity
            check_move(host, self._sign(formerly).life if is_ours else None, mine.record.identity)
            if is_ours:
                return vtep_in(self._move(host, formerly, theirs, mine).ip.ip, known.subnet)
        vtep = vtep_of(mine.record)
        if vtep is None:
            vtep = self._vteps.held(host, known)
        elif not self._vteps.is_kept(vtep, host.agent_ip):
            host, vtep = msgspec.structs.replace(host, vtep=vtep), None
        if vtep is None:
            self._ground.make_room(_paths(host.agent_ip))
            was_seen = self._link.exists(of_agent(SEEN, host.agent_ip)) is not None
            vtep = self._vteps.free(host, known, turn)
            self._enter(host, mine, sign, vtep, given=(known, turn, was_seen))
        elif self._admitted(host, mine.record, vtep) != mine.record or not sign.is_ours:
            self._enter(host, mine, sign, vtep)
        return vtep_in(vtep.ip.ip, known.subnet)

    def _admitted(self, host: Host, known: Record, vtep: Vtep) -> Record:
        """Answer a host's record with its identity and its VTEP."""
        return msgspec.structs.replace(
            known, identity=host.identity, vtep=str(vtep.ip), reclaim_after=host.reclaim_after
        )

    def _enter(
        self, host: Host, mine: Known, sign: Sign, vtep: Vtep, *, given: tuple[Range, Turn, bool] | None = None
    ) -> None:
        """Record a host and that it lives; `given`: its VTEP is new, and out of that range, in that turn.

        Nothing is asked then that could be asked before: the VTEP is kept meanwhile.
        """
        changes = self._ground.transaction()
        self._ground.admit(changes, host.agent_ip, None)
        paths = _paths(host.agent_ip)
        was_seen = None
        if given is not None:
            known, turn, was_seen = given
            self._vteps.give(changes, vtep, known, host.agent_ip)
            turn.leave(changes)
            paths.append(of_vtep(vtep.ip))
        record = self._admitted(host, mine.record, vtep)
        if record != mine.record:
            self._ground.put_record(changes, host.agent_ip, record, mine.version)
        self._come_alive(changes, host, sign, was_seen)
        self._ground.commit(changes, *paths)
        if given is not None:
            given[1].left()

    def _come_alive(self, changes: Changes, host: Host, sign: Sign, was_seen: bool | None = None) -> None:  # noqa: FBT001 - as it was found
        alive, seen = (of_agent(folder, host.agent_ip) for folder in (ALIVE, SEEN))
        if not sign.is_ours:
            if sign.life is not None:
                changes.delete(alive)
            changes.create_fleeting(alive, encode(Life(identity=host.identity, boot=host.boot)))
        if was_seen is None:
            was_seen = self._link.exists(seen) is not None
        changes.put(seen, b"", -1 if was_seen else None)

    def _move(self, host: Host, formerly: Address, theirs: Known, mine: Known) -> Vtep:
        """Have an agent be known by its new IP, with all that it held under the former one."""
        old = theirs.record
        record = msgspec.structs.replace(
            old, subnets=(*old.subnets, *mine.record.subnets), reclaim_after=host.reclaim_after
        )
        changes = self._ground.transaction()
        self._ground.admit(changes, host.agent_ip, formerly)
        new = str(host.agent_ip).encode()
        for path in self._held_by(formerly, old):
            changes.put(path, new, -1)
        for path in self._held_by(host.agent_ip, Record(vtep=mine.record.vtep)):
            changes.delete(path)
        self._leave(changes, formerly, theirs, self._sign(formerly))
        self._ground.put_record(changes, host.agent_ip, record, mine.version)
        self._come_alive(changes, host, self._sign(host.agent_ip))
        self._ground.commit(changes, *_paths(host.agent_ip), of_agent(COUNTS, formerly))
        vtep = vtep_of(record)
        if vtep is None:
            raise damaged(self._link.address, of_agent(AGENTS, formerly), "has no VTEP")
        return vtep

    def _leave(self, changes: Changes, agent_ip: Address, known: Known, sign: Sign, seen: int = -1) -> None:
        """Have a transaction delete what is there of an agent, but for what it holds.

        `seen` is the version of its last sign of life: with a later one it fails.
        """
        if sign.life is not None:
            changes.delete(of_agent(ALIVE, agent_ip))
        if self._link.exists(of_agent(SEEN, agent_ip)):
            changes.delete(of_agent(SEEN, agent_ip), seen)
        for path in self._uses(agent_ip):
            changes.delete(path)
        self._counts.drop(changes, agent_ip)
        self._ground.drop_record(changes, agent_ip, known)

    def _forget(self, agent_ip: Address, seen: int = -1) -> None:
        known = self._ground.known(agent_ip)
        if self._sign(agent_ip).life is not None:
            raise still_alive(agent_ip)
        if known.version is None:
            self._forget_uses(agent_ip)
            return
        alive = of_agent(ALIVE, agent_ip)
        changes = self._ground.transaction()
        # ZooKeeper cannot be asked that a node is not there: to make it and to take it away says so.
        changes.create(alive)
        changes.delete(alive)
        for path in self._held_by(agent_ip, known.record):
            changes.delete(path)
        self._leave(changes, agent_ip, known, Sign(None, is_ours=False), seen)
        self._ground.commit(changes, alive, of_agent(COUNTS, agent_ip))

    def _forget_uses(self, agent_ip: Address) -> None:
        """Forget what is left of one that has no record; raise NotFound where nothing is."""
        left = self._uses(agent_ip)
        if not left:
            raise unknown_agent(agent_ip)
        alive = of_agent(ALIVE, agent_ip)
        changes = self._ground.transaction()
        changes.create(alive)
        changes.delete(alive)
        for path in left:
            changes.delete(path)
        self._ground.commit(changes, alive)

    def _held_by(self, agent_ip: Address, record: Record) -> list[str]:
        """Answer the nodes of what an agent holds by its record; what somebody deleted another may have by now."""
        definitions, _ = self._ground.definitions()
        vtep = vtep_of(record)
        paths = [*([of_vtep(vtep.ip)] if vtep else []), *nodes_of(record, definitions)]
        nodes = zip(paths, self._link.every(paths), strict=True)
        return [path for path, node in nodes if node is not None and not _is_anothers(node.data, agent_ip)]

    def _uses(self, agent_ip: Address) -> list[str]:
        definitions, _ = self._ground.definitions()
        return self._there([of_agent(of_overlay(USES, one.number), agent_ip) for one in definitions.overlays])

    def _there(self, paths: list[str]) -> list[str]:
        stats = self._link.every_stat(paths)
        return [path for path, stat in zip(paths, stats, strict=True) if stat is not None]

    def _sign(self, agent_ip: Address) -> Sign:
        path = of_agent(ALIVE, agent_ip)
        found = self._link.get(path)
        if found is None:
            return Sign(None, is_ours=False)
        life = understood(self._link.address, found.data, Life, path)
        return Sign(life, is_ours=found.stat.ephemeralOwner == self._link.session)

    def _alive(self) -> frozenset[Address]:
        return frozenset(self._ground.agents_below(ALIVE))

    def _since(self, agents: Iterable[Address], alive: frozenset[Address]) -> dict[Address, float]:
        """Answer since when each lives, or when it was last seen, by ZooKeeper's clock; some are not known of."""
        every = list(agents)
        born = self._stats(ALIVE, [agent for agent in every if agent in alive])
        seen = self._stats(SEEN, [agent for agent in every if agent not in alive])
        lives = {agent: _seconds(stat.ctime) for agent, stat in born.items()}
        return lives | {agent: _seconds(stat.mtime) for agent, stat in seen.items()}

    def _stats(self, folder: str, agents: Sequence[Address]) -> dict[Address, Any]:
        """Answer what ZooKeeper notes of those nodes of agents that are there."""
        stats = self._link.every_stat([of_agent(folder, agent) for agent in agents])
        return {agent: stat for agent, stat in zip(agents, stats, strict=True) if stat}

    def _see(self, agent_ip: Address) -> None:
        """Note the time, in a node that may be missing; the record tells whether there is such an agent."""
        seen = of_agent(SEEN, agent_ip)
        changes = self._ground.transaction()
        changes.put(seen, b"", -1)
        try:
            self._ground.commit(changes)
        except Conflict as conflict:
            if conflict.path != seen:
                raise
            known = self._ground.known(agent_ip)
            if known.version is None:
                raise unknown_agent(agent_ip) from None
            self._make_seen(agent_ip, known.version)

    def _make_seen(self, agent_ip: Address, version: int) -> None:
        """Make a node for the signs of life of an agent whose record is of that version."""
        seen = of_agent(SEEN, agent_ip)
        changes = self._ground.transaction()
        changes.check(of_agent(AGENTS, agent_ip), version)
        changes.create(seen)
        self._ground.commit(changes, seen)

    def _begin_term(self, agent_ip: Address) -> None:
        """Have an agent whose last sign of life is lost be reclaimed from now on in its time."""
        known = self._ground.known(agent_ip)
        if known.version is not None:
            with suppress(Conflict):
                self._make_seen(agent_ip, known.version)

    def _is_reclaimer(self) -> bool:
        """Tell whether this session is the one that looks; become it where nobody is."""
        found = self._link.get(RECLAIMER)
        if found is not None:
            return bool(found.stat.ephemeralOwner == self._link.session)
        changes = self._ground.transaction()
        changes.create_fleeting(RECLAIMER, b"")
        with suppress(Conflict):
            self._ground.commit(changes)
            return True
        return False

    def _now(self) -> float | None:
        """Answer the time by ZooKeeper's clock; None where somebody else is the one that looks by now."""
        changes = self._link.transaction()
        changes.put(RECLAIMER, b"", -1)
        try:
            (stat,) = self._link.commit(changes)
        except Conflict:
            return None
        return _seconds(stat.mtime)

    def _is_forgotten(self, agent_ip: Address, seen: int) -> bool:
        """Forget one whose last sign of life has that version; it may have given another, or be gone, meanwhile."""
        with suppress(InUse, NotFound, Conflict):
            self._forget(agent_ip, seen)
            return True
        return False


def _is_anothers(holder: bytes, agent_ip: Address) -> bool:
    """Tell whether a node is of what another agent holds; rubbish is nobody's."""
    with suppress(ValueError):
        return ip_address(holder.decode()) != agent_ip
    return False


def _paths(agent_ip: Address) -> list[str]:
    return [of_agent(folder, agent_ip) for folder in (ALIVE, SEEN, AGENTS)]


def _seconds(milliseconds: float) -> float:
    return milliseconds / _MILLISECONDS
