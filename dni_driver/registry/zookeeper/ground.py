# SPDX-License-Identifier: Apache-2.0
"""What every part of the registry in ZooKeeper stands on: its version, the overlays, and the agents' records."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address
from typing import TypeVar

import msgspec

from dni_driver.core.agent_ip import check_family, in_order
from dni_driver.core.deadline import deadline, within
from dni_driver.core.errors import DeadlineExceeded, StoreError, Unavailable
from dni_driver.core.overlays import Address, family_of
from dni_driver.registry.interface import unknown_agent
from dni_driver.registry.zookeeper import journal
from dni_driver.registry.zookeeper.damage import damaged, not_understood, read_names, understood
from dni_driver.registry.zookeeper.layout import (
    AGENTS,
    FOLDERS,
    FORMAT,
    OTHER_VTEPS,
    OVERLAYS,
    SUBNETS,
    USES,
    VERSION,
    VERSIONS,
    Definitions,
    Entry,
    Record,
    encode,
    has_other_vteps,
    of_agent,
    while_leaving,
)
from dni_driver.registry.zookeeper.link import Changes, Conflict, Link
from dni_driver.registry.zookeeper.turn import Turn

_PATIENCE = 15.0
"""Seconds in which a change that others get in the way of is tried again."""
_PATIENCE_IN_LINE = 300.0
"""Seconds; it moves on while one waits, and who stands in it anew only asks for the same once more."""
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 1.0

R = TypeVar("R")


class Known(msgspec.Struct, frozen=True):
    """An agent's record, and the version it is of; None where there is none yet."""

    record: Record
    version: int | None


class Ground:
    """Reads and writes what several parts share."""

    def __init__(self, link: Link) -> None:
        """Do nothing yet: ZooKeeper may be away."""
        self.link = link
        self.born = 0
        """Another number after the registry was deleted, and made anew."""
        self._prepared: int | None = None
        self._format = 0, VERSIONS[4]
        self._folders: set[str] = set()

    def settled(self, attempt: Callable[[], R]) -> R:
        """Do something that looks first and changes then, again while others change the same; raise Unavailable."""
        with deadline(_PATIENCE):
            self.prepare()
            return self._settled(attempt, lambda: None)

    def settled_in_turn(self, attempt: Callable[[Turn], R]) -> R:
        """Do something that takes the lowest that is free: where others do so too, after those who came before."""
        with deadline(_PATIENCE_IN_LINE):
            self.prepare()
            with Turn(self.link, self.make_room) as turn:
                return self._settled(partial(attempt, turn), turn.again)

    def _settled(self, attempt: Callable[[], R], again: Callable[[], None]) -> R:
        longest = _FIRST_PAUSE
        while True:
            try:
                return attempt()
            except Conflict as conflict:
                again()
                _pause_after(conflict, longest)
                longest = min(longest * 2, _LONGEST_PAUSE)
                self.prepare()

    def prepare(self) -> None:
        """Make sure that the registry is there and of this version; raise StoreError where it is newer."""
        epoch = self.link.epoch
        if self._prepared == epoch:
            return
        found = self.link.get(FORMAT)
        if found is None:
            self._found()
            found = self.link.get(FORMAT)
        if found is None or (version := self._checked_version(found.data)) < 1:
            raise self._foreign()
        self._prepared, self._format, self._folders = epoch, (found.version, version), set()

    def _checked_version(self, data: bytes) -> int:
        version = self.version(data)
        if version > VERSION:
            raise StoreError(
                f"the registry {self.link.address} was written by a newer dni (version {version}): install that one"
            )
        return version

    def version(self, data: bytes) -> int:
        """Read of which version a registry is; raise StoreError."""
        if data.isdigit():
            return int(data)
        if self.link.exists(OVERLAYS) is None:
            raise self._foreign()
        raise not_understood(self.link.address, FORMAT, "it is no number")

    def missing(self, path: str) -> StoreError | Unavailable:
        """Build the error of a node that every registry has; one that was deleted as a whole is soon made anew."""
        self._prepared = None
        if self.link.exists(FORMAT) is None:
            return Unavailable(
                f"the registry {self.link.address} was deleted, and agents write it anew: try again in a moment"
            )
        return damaged(self.link.address, path, "is missing")

    def definitions(self) -> tuple[Definitions, int]:
        """Answer the overlays, and the version they are of."""
        found = self.link.get(OVERLAYS)
        if found is None:
            raise self.missing(OVERLAYS)
        if found.stat.czxid != self.born:
            self.born, self._prepared = found.stat.czxid, None
            self.prepare()
        return understood(self.link.address, found.data, Definitions, OVERLAYS), found.version

    def put_definitions(self, changes: Changes, definitions: Definitions, version: int) -> None:
        """Have a transaction of `transaction` change the overlays, and tell everybody.

        While one is leaving the registry is for those alone who know what that means.
        """
        changes.put(OVERLAYS, encode(definitions), version)
        journal.append(changes, Entry())
        node_version, format_now = self._format
        wanted = while_leaving(format_now, is_leaving=bool(definitions.leaving()))
        if wanted != format_now:
            changes.put(FORMAT, str(wanted).encode(), node_version)
            self._prepared = None

    def admit(self, changes: Changes, agent_ip: Address, formerly: Address | None) -> None:
        """Have a transaction that adds an agent fail where others are named by the other family of addresses by then.

        Raises Refused where they are now; `formerly` is the same agent. Where there are no others, it is this one's
        family that counts from now on.
        """
        found = self.link.get(FORMAT)
        if found is None:
            raise self.missing(FORMAT)
        wanted = self.format_for(agent_ip, other_vteps=has_other_vteps(self._checked_version(found.data)))
        if found.data == wanted:
            changes.check(FORMAT, found.version)
        else:
            check_family(agent_ip, (agent for agent in self.agents_below(AGENTS) if agent != formerly))
            changes.put(FORMAT, wanted, found.version)

    def format_for(self, agent_ip: Address, *, other_vteps: bool) -> bytes:
        """Answer the version where that agent is among others of its family, as it is to be written."""
        version = VERSIONS[family_of(agent_ip)] + (OTHER_VTEPS if other_vteps else 0)
        _, format_now = self._format
        is_leaving = while_leaving(format_now, is_leaving=True) == format_now
        return str(while_leaving(version, is_leaving=is_leaving)).encode()

    def known(self, agent_ip: Address) -> Known:
        """Answer an agent's record; an empty one for an agent that has none."""
        path = of_agent(AGENTS, agent_ip)
        found = self.link.get(path)
        if found is None:
            return Known(Record(), None)
        return Known(understood(self.link.address, found.data, Record, path), found.version)

    def check_known(self, changes: Changes, agent_ip: Address) -> None:
        """Have a transaction fail where an agent has no record any more; raise NotFound where it has none now."""
        if self.known(agent_ip).version is None:
            raise unknown_agent(agent_ip)
        changes.check(of_agent(AGENTS, agent_ip), -1)

    def records(self) -> dict[Address, Record]:
        """Answer all agents' records, by IP."""
        agents = in_order(self.agents_below(AGENTS))
        paths = [of_agent(AGENTS, agent) for agent in agents]
        nodes = zip(agents, paths, self.link.every(paths), strict=True)
        return {agent: understood(self.link.address, one.data, Record, path) for agent, path, one in nodes if one}

    def agents_below(self, folder: str) -> list[Address]:
        """Answer the agents that have nodes in the shards of a folder."""
        shards = [f"{folder}/{shard}" for shard in self.link.children(folder)]
        every = zip(shards, self.link.every_child(shards), strict=True)
        return [agent for shard, names in every for agent in read_names(self.link.address, shard, names, ip_address)]

    def put_record(self, changes: Changes, agent_ip: Address, record: Record, version: int | None) -> None:
        """Have a transaction change an agent's record, and tell everybody."""
        changes.put(of_agent(AGENTS, agent_ip), encode(record), version)
        journal.append(changes, Entry(agent=str(agent_ip), record=record))

    def drop_record(self, changes: Changes, agent_ip: Address, known: Known) -> None:
        """Have a transaction delete an agent's record, and tell everybody."""
        changes.delete(of_agent(AGENTS, agent_ip), -1 if known.version is None else known.version)
        journal.append(changes, Entry(agent=str(agent_ip)))

    def transaction(self) -> Changes:
        """Begin a transaction that fails where the registry was made a newer dni's meanwhile."""
        changes = self.link.transaction()
        changes.check(FORMAT, self._format[0])
        return changes

    def commit(self, changes: Changes, *paths: str) -> None:
        """Do such a transaction, which makes nodes at `paths`, if at all.

        Now and then, shorten the journal. Where `format` is another by now, it is read again before anything else.
        """
        self.make_room(paths)
        try:
            results = self.link.commit(changes)
        except Conflict as conflict:
            if conflict.path == FORMAT:
                self._prepared = None
            # Somebody may have deleted it.
            self._folders.discard(conflict.path.rpartition("/")[0])
            raise
        journal.trim(self.link, results)

    def make_room(self, paths: Sequence[str]) -> None:
        """Make the folders that nodes are about to be put into: those of agents and VTEPs never go again.

        A transaction does it too; who is to take turns does it before.
        """
        folders = {path.rpartition("/")[0] for path in paths} - self._folders
        self.link.make_folders(sorted(folders))
        self._folders |= {folder for folder in folders if not folder.startswith((SUBNETS, USES))}

    def _found(self) -> None:
        """Make an empty registry; who is first makes all of it."""
        self.link.make_folders([""])
        changes = self.link.transaction()
        changes.create(FORMAT, str(VERSIONS[4]).encode())
        changes.create(OVERLAYS, encode(Definitions()))
        for folder in FOLDERS:
            changes.create(folder)
        try:
            self.link.commit(changes)
        except Conflict:
            if self.link.get(FORMAT) is None:
                raise self._foreign() from None

    def _foreign(self) -> StoreError:
        return StoreError(f"{self.link.address} is no registry of dni: use another place in ZooKeeper")


def _pause_after(conflict: Conflict, longest: float) -> None:
    """Pause; where there is no time left, say what was in the way."""
    try:
        _pause(longest)
    except DeadlineExceeded:
        raise DeadlineExceeded(
            f"others changed the same in the registry again and again ({conflict}): try again in a moment"
        ) from None


def _pause(longest: float) -> None:
    time.sleep(min(within(longest), random.uniform(0, longest)))  # noqa: S311 - no secret
