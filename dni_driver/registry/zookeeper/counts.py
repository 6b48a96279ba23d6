# SPDX-License-Identifier: Apache-2.0
"""How full agents are and what is wrong with them, as each tells of itself.

A node for each, which nobody watches and its agent seldom writes.
"""

from __future__ import annotations

from collections.abc import Collection
from time import monotonic

from dni_driver.core.addresses import counts as codec
from dni_driver.core.addresses.counts import Counts, Told
from dni_driver.core.overlays import Address
from dni_driver.registry.interface import unknown_agent
from dni_driver.registry.zookeeper.ground import Ground
from dni_driver.registry.zookeeper.layout import AGENTS, COUNTS, of_agent
from dni_driver.registry.zookeeper.link import ANSWER_SECONDS, Changes, Conflict

LOOKED_AT_EVERY = 60.0
"""Seconds after which an agent looks whether what it told is there still: somebody may have deleted or damaged it."""

_Place = tuple[int, int, Address, float]
"""A session, which registry it found, an agent, and a minute: what was written in all of these is there still."""


class AgentCounts:
    """Writes what changes, and reads what it is asked for."""

    def __init__(self, ground: Ground) -> None:
        """Take what it stands on."""
        self._ground = ground
        self._link = ground.link
        self._said: tuple[_Place, Counts] | None = None

    def tell(self, agent_ip: Address, counts: Counts) -> None:
        """Say how full an agent is (Registry.tell)."""
        self._ground.settled(lambda: self._tell(agent_ip, counts))

    def told(self, agents: Collection[Address]) -> dict[Address, Told]:
        """Answer what agents told (Registry.told)."""
        self._ground.prepare()
        self._link.wait(ANSWER_SECONDS)
        found = self._link.every([of_agent(COUNTS, agent) for agent in agents])
        return {agent: codec.read(one.data) for agent, one in zip(agents, found, strict=True) if one is not None}

    def drop(self, changes: Changes, agent_ip: Address) -> None:
        """Have a transaction delete what an agent told, and fail where it tells something just then.

        The folder is to be there: what is not there yet is made, and deleted, which says so.
        """
        path = of_agent(COUNTS, agent_ip)
        if self._link.exists(path) is None:
            changes.create(path)
        changes.delete(path)

    def _tell(self, agent_ip: Address, counts: Counts) -> None:
        """Write what is not there; in a new session, a new registry, and now and then, look first."""
        place = (self._link.epoch, self._ground.born, agent_ip, monotonic() // LOOKED_AT_EVERY)
        said, self._said = self._said, None
        is_known = said is not None and said[0] == place
        if said is None or not is_known or not said[1].agrees(counts):
            path = of_agent(COUNTS, agent_ip)
            found = None if is_known else self._link.get(path)
            if found is None or not codec.is_told(counts, found.data):
                self._write(agent_ip, counts, is_new=not is_known and found is None)
        self._said = (place, counts)

    def _write(self, agent_ip: Address, counts: Counts, *, is_new: bool) -> None:
        agent, path = (of_agent(folder, agent_ip) for folder in (AGENTS, COUNTS))
        changes = self._ground.transaction()
        # Whoever was forgotten meanwhile leaves nothing behind.
        changes.check(agent, -1)
        changes.put(path, codec.write(counts), None if is_new else -1)
        try:
            self._ground.commit(changes)
        except Conflict as conflict:
            if self._link.exists(agent) is None:
                raise unknown_agent(agent_ip) from None
            if conflict.path == path:
                # Only now it is known that the registry is none of a newer dni.
                self._link.make_folders([path.rpartition("/")[0]])
            raise
