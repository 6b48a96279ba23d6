# SPDX-License-Identifier: Apache-2.0
"""How overlays go: marked first, and forgotten once nobody holds any of them (docs/decisions/0045).

While one is marked nobody gets any of it: a lease is made in a transaction that fails where the overlays have
changed. So those that hold some can only become fewer, and what nobody holds is held by nobody when it is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from dni_driver.core.errors import DniError
from dni_driver.core.overlays import Address
from dni_driver.registry.interface import not_to_be_asked, stays, unknown, used_by
from dni_driver.registry.zookeeper.damage import read_holder
from dni_driver.registry.zookeeper.ground import Ground
from dni_driver.registry.zookeeper.layout import AGENTS, ALIVE, LINE, SUBNETS, USES, of_agent, of_overlay, use_of
from dni_driver.registry.zookeeper.link import Found


class Removals:
    """Begins, calls off, and ends."""

    def __init__(self, ground: Ground) -> None:
        """Take what it stands on."""
        self._ground = ground
        self._link = ground.link

    def every(self) -> dict[str, Address]:
        """Answer what is leaving (Registry.leaving)."""
        self._ground.prepare()
        return self._ground.definitions()[0].leaving()

    def begin(self, name: str, agent_ip: Address) -> None:
        """Mark an overlay (Registry.begin_removal)."""
        self._ground.settled(lambda: self._begin(name, agent_ip))

    def call_off(self, name: str, agent_ip: Address | None) -> None:
        """Take the mark away (Registry.keep)."""
        self._ground.settled(lambda: self._call_off(name, agent_ip))

    def end(self, name: str) -> bool:
        """Forget what nobody holds (Registry.end_removal)."""
        is_gone = self._ground.settled(lambda: self._end(name))
        if is_gone:
            with suppress(DniError):
                self._sweep()
        return is_gone

    def _begin(self, name: str, agent_ip: Address) -> None:
        definitions, version = self._ground.definitions()
        known = definitions.named(name)
        if known is None:
            raise unknown(name)
        if known.leaving is not None:
            return
        users = set(self._ground.agents_below(of_overlay(USES, known.number)))
        if users:
            raise used_by(name, users)
        holders = {read_holder(self._link.address, node.data, path) for path, node in self._held(known.number)}
        silent = holders - set(self._ground.agents_below(ALIVE))
        silent &= set(self._ground.agents_below(AGENTS))
        if silent:
            raise not_to_be_asked(name, silent)
        changes = self._ground.transaction()
        self._ground.put_definitions(changes, definitions.marked(name, agent_ip), version)
        self._ground.commit(changes)

    def _call_off(self, name: str, agent_ip: Address | None) -> None:
        """Take the mark away, and have it be known in the same moment who uses the overlay."""
        definitions, version = self._ground.definitions()
        known = definitions.named(name)
        if known is None:
            raise unknown(name)
        if known.leaving is None:
            return
        changes = self._ground.transaction()
        self._ground.put_definitions(changes, definitions.marked(name, None), version)
        use = use_of(known.number, agent_ip) if agent_ip is not None else None
        if use is None or self._link.exists(use):
            self._ground.commit(changes)
        else:
            changes.create(use)
            self._ground.commit(changes, use)

    def _end(self, name: str) -> bool:
        """Forget an overlay with the folders of its users: ZooKeeper refuses to where somebody is in one."""
        definitions, version = self._ground.definitions()
        known = definitions.named(name)
        if known is None:
            return True
        uses = of_overlay(USES, known.number)
        shards = [f"{uses}/{shard}" for shard in self._link.children(uses)]
        users = set(self._ground.agents_below(uses))
        if known.leaving is None:
            raise stays(name, users)
        if users:
            return False
        changes = self._ground.transaction()
        for path, node in self._held(known.number):
            if self._is_known(read_holder(self._link.address, node.data, path)):
                return False
            # Who was known by another address a moment ago has taken it along.
            changes.check(path, node.version)
        self._ground.put_definitions(changes, definitions.without(name), version)
        for folder in (*shards, uses):
            changes.delete(folder)
        self._ground.commit(changes)
        return True

    def _held(self, number: int) -> Iterator[tuple[str, Found]]:
        """Answer the nodes of held agent subnets of the overlay of a number; none is read before it is asked for.

        Where all give theirs back, each looks for one that is left.
        """
        folder = of_overlay(SUBNETS, number)
        for shard in [f"{folder}/{name}" for name in self._link.children(folder)]:
            paths = [f"{shard}/{name}" for name in self._link.children(shard)]
            yield from self._read(paths)

    def _read(self, paths: list[str]) -> Iterator[tuple[str, Found]]:
        """Answer nodes with their data: the first by itself, then the others together."""
        for some in (paths[:1], paths[1:]):
            nodes = zip(some, self._link.every(some), strict=True)
            yield from ((path, one) for path, one in nodes if one is not None)

    def _is_known(self, agent_ip: Address) -> bool:
        """Tell whether a holder is an agent: what is left of one that is none any more stays nobody's."""
        return any(self._link.exists(of_agent(folder, agent_ip)) for folder in (AGENTS, ALIVE))

    def _sweep(self) -> None:
        """Take away what is left of overlays that are gone; what an end leaves here goes with the next removal."""
        definitions, _ = self._ground.definitions()
        for folder in (SUBNETS, USES, f"{LINE}/{SUBNETS}"):
            for number in (int(name) for name in self._link.children(folder) if name.isdecimal()):
                if number not in definitions.names() and number < definitions.following:
                    self._link.remove_tree(of_overlay(folder, number))
