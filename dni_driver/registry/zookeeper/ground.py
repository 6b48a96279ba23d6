# SPDX-License-Identifier: Apache-2.0
"""What every part of the registry in ZooKeeper stands on: its version, the overlays, and the agents' records."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any, TypeVar

import msgspec

from dni_driver.core.agent_ip import check_family, in_order
from dni_driver.core.deadline import deadline, within
from dni_driver.core.errors import StoreError
from dni_driver.core.overlays import Address, family_of
from dni_driver.registry.zookeeper import journal
from dni_driver.registry.zookeeper.layout import (
    AGENTS,
    FOLDERS,
    FORMAT,
    LINE,
    OTHER_VTEPS,
    OVERLAYS,
    SUBNETS,
    USES,
    VERSION,
    VERSIONS,
    Definitions,
    Entry,
    Record,
    decode,
    encode,
    of_agent,
)
from dni_driver.registry.zookeeper.link import Changes, Conflict, Link
from dni_driver.registry.zookeeper.turn import Turn

_PATIENCE = 15.0
"""Seconds in which a change that others get in the way of is tried again."""
_PATIENCE_IN_LINE = 60.0
"""Seconds; it moves on while one waits."""
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
        self._prepared: int | None = None
        self._folders: set[str] = set()

    def settled(self, attempt: Callable[[], R]) -> R:
        """Do something that looks first and changes then, again while others change the same; raise Unavailable."""
        with deadline(_PATIENCE):
            self.prepare()
            longest = _FIRST_PAUSE
            while True:
                try:
                    return attempt()
                except Conflict:
                    _pause(longest)
                    longest = min(longest * 2, _LONGEST_PAUSE)

    def settled_in_turn(self, attempt: Callable[[Turn], R]) -> R:
        """Do something that takes the lowest that is free: where others do so too, after those who came before."""
        with deadline(_PATIENCE_IN_LINE):
            self.prepare()
            self.make_room([f"{LINE}/"])
            with Turn(self.link) as turn:
                while True:
                    try:
                        return attempt(turn)
                    except Conflict:
                        turn.queue()
                        _pause(_FIRST_PAUSE)

    def prepare(self) -> None:
        """Make sure that the registry is there and of this version; raise StoreError where it is newer."""
        epoch = self.link.epoch
        if self._prepared == epoch:
            return
        found = self.link.get(FORMAT)
        if found is None:
            self._found()
            found = self.link.get(FORMAT)
        version = int(found.data) if found is not None and found.data.isdigit() else 0
        if version > VERSION:
            raise StoreError(
                f"the registry {self.link.address} was written by a newer dni (version {version}): install that one"
            )
        if version < 1:
            raise StoreError(f"{self.link.address} is no registry of dni: use another place in ZooKeeper")
        self._prepared, self._folders = epoch, set()

    def definitions(self) -> tuple[Definitions, int]:
        """Answer the overlays, and the version they are of."""
        found = self.link.get(OVERLAYS)
        if found is None:
            raise StoreError(f"the registry {self.link.address} is damaged: it has no overlays node")
        return decode(found.data, Definitions, OVERLAYS), found.version

    def put_definitions(self, changes: Changes, definitions: Definitions, version: int) -> None:
        """Have a transaction change the overlays, and tell everybody."""
        changes.put(OVERLAYS, encode(definitions), version)
        journal.append(changes, Entry())

    def admit(self, changes: Changes, agent_ip: Address, formerly: Address | None) -> None:
        """Have a transaction that adds an agent fail where others are named by the other family of addresses by then.

        Raises Refused where they are now; `formerly` is the same agent. Where there are no others, it is this one's
        family that counts from now on.
        """
        found = self.link.get(FORMAT)
        if found is None:
            raise StoreError(f"the registry {self.link.address} is damaged: it has no format node")
        others = OTHER_VTEPS if int(found.data) > max(VERSIONS.values()) else 0
        wanted = str(VERSIONS[family_of(agent_ip)] + others).encode()
        if found.data == wanted:
            changes.check(FORMAT, found.version)
        else:
            check_family(agent_ip, (agent for agent in self._agents() if agent != formerly))
            changes.put(FORMAT, wanted, found.version)

    def _agents(self) -> Iterator[Address]:
        for shard in self.link.children(AGENTS):
            yield from map(ip_address, self.link.children(f"{AGENTS}/{shard}"))

    def known(self, agent_ip: Address) -> Known:
        """Answer an agent's record; an empty one for an agent that has none."""
        path = of_agent(AGENTS, agent_ip)
        found = self.link.get(path)
        return Known(decode(found.data, Record, path), found.version) if found else Known(Record(), None)

    def records(self) -> dict[Address, Record]:
        """Answer all agents' records, by IP."""
        shards = self.link.children(AGENTS)
        names = self.link.every_child([f"{AGENTS}/{shard}" for shard in shards])
        agents = in_order(ip_address(name) for some in names for name in some)
        found = self.link.every([of_agent(AGENTS, agent) for agent in agents])
        return {agent: decode(one.data, Record, str(agent)) for agent, one in zip(agents, found, strict=True) if one}

    def put_record(self, changes: Changes, agent_ip: Address, record: Record, version: int | None) -> None:
        """Have a transaction change an agent's record, and tell everybody."""
        changes.put(of_agent(AGENTS, agent_ip), encode(record), version)
        journal.append(changes, Entry(agent=str(agent_ip), record=record))

    def drop_record(self, changes: Changes, agent_ip: Address, known: Known) -> None:
        """Have a transaction delete an agent's record, and tell everybody."""
        changes.delete(of_agent(AGENTS, agent_ip), -1 if known.version is None else known.version)
        journal.append(changes, Entry(agent=str(agent_ip)))

    def commit(self, changes: Changes, *paths: str) -> list[Any]:
        """Do a transaction that makes nodes at `paths`, if at all; now and then, shorten the journal."""
        self.make_room(paths)
        results = self.link.commit(changes)
        journal.trim(self.link, results)
        return results

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
                raise StoreError(
                    f"{self.link.address} is no registry of dni: use another place in ZooKeeper"
                ) from None


def _pause(longest: float) -> None:
    time.sleep(min(within(longest), random.uniform(0, longest)))  # noqa: S311 - no secret
