# SPDX-License-Identifier: Apache-2.0
"""The overlays of the cluster: all in one node, so that no two of them can come to overlap."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress

import msgspec

from dni_driver.core.errors import DniError
from dni_driver.core.overlays import Address, Backend, Overlay
from dni_driver.registry.interface import (
    check_widening,
    is_defined,
    not_to_be_asked,
    unknown,
    used_by,
    with_backend,
)
from dni_driver.registry.zookeeper.damage import read_holder
from dni_driver.registry.zookeeper.ground import Ground
from dni_driver.registry.zookeeper.layout import (
    AGENTS,
    ALIVE,
    LINE,
    OVERLAYS,
    SUBNETS,
    USES,
    Definition,
    of_agent,
    of_overlay,
)
from dni_driver.registry.zookeeper.vteps import Vteps


class Overlays:
    """Defines and removes."""

    def __init__(self, ground: Ground) -> None:
        """Take what it stands on."""
        self._ground = ground
        self._link = ground.link
        self._vteps = Vteps(ground)
        self._used: tuple[int, int, frozenset[int]] = (-1, -1, frozenset())

    def every(self) -> list[Overlay]:
        """Answer all overlays, by name."""
        self._ground.prepare()
        return self._ground.definitions()[0].every()

    def define(self, overlay: Overlay) -> None:
        """Record an overlay (Registry.define)."""
        self._ground.settled(lambda: self._define(overlay))

    def widen(self, overlay: Overlay) -> None:
        """Give an overlay the family that it lacks (Registry.widen)."""

        def widened(known: list[Overlay]) -> Overlay:
            check_widening(overlay, known)
            return overlay

        self._ground.settled(lambda: self._change(widened))

    def set_backend(self, name: str, backend: Backend) -> None:
        """Change how packets travel (Registry.set_backend)."""
        self._ground.settled(lambda: self._change(lambda known: with_backend(name, backend, known)))

    def remove(self, name: str) -> None:
        """Forget an overlay and its leases (Registry.remove)."""
        self._ground.settled(lambda: self._remove(name))
        with suppress(DniError):
            self._sweep()

    def use(self, agent_ip: Address, names: Collection[str]) -> None:
        """Say which overlays an agent uses (Registry.use)."""
        self._ground.settled(lambda: self._use(agent_ip, names))

    def _define(self, overlay: Overlay) -> None:
        definitions, version = self._ground.definitions()
        if is_defined(overlay, definitions.every()):
            return
        following = self._unused_number(definitions.following)
        more = msgspec.structs.replace(definitions, following=following).with_one(overlay)
        changes = self._ground.transaction()
        self._vteps.check_apart(changes, [overlay])
        self._ground.put_definitions(changes, more, version)
        for folder in (SUBNETS, USES):
            changes.create(of_overlay(folder, following))
        self._ground.commit(changes)

    def _unused_number(self, following: int) -> int:
        """Answer a number for an overlay that nothing is left of, should the overlays' node have been overwritten."""
        names = [name for folder in (SUBNETS, USES) for name in self._link.children(folder)]
        return max([following, *(int(name) + 1 for name in names if name.isdecimal())])

    def _change(self, changed: Callable[[list[Overlay]], Overlay]) -> None:
        definitions, version = self._ground.definitions()
        overlay = changed(definitions.every())
        if overlay in definitions.every():
            return
        changes = self._ground.transaction()
        self._vteps.check_apart(changes, [overlay])
        self._ground.put_definitions(changes, definitions.with_one(overlay), version)
        self._ground.commit(changes)

    def _remove(self, name: str) -> None:
        """Remove an overlay with the folders of its users: ZooKeeper refuses to where somebody is in one."""
        definitions, version = self._ground.definitions()
        known = definitions.named(name)
        if known is None:
            raise unknown(name)
        uses = of_overlay(USES, known.number)
        shards = [f"{uses}/{shard}" for shard in self._link.children(uses)]
        users = set(self._ground.agents_below(uses))
        if users:
            raise used_by(name, users)
        silent = self._holders(known.number) - set(self._ground.agents_below(ALIVE))
        silent &= set(self._ground.agents_below(AGENTS))
        if silent:
            raise not_to_be_asked(name, silent)
        changes = self._ground.transaction()
        self._ground.put_definitions(changes, definitions.without(name), version)
        for folder in (*shards, uses):
            changes.delete(folder)
        self._ground.commit(changes)

    def _holders(self, number: int) -> set[Address]:
        """Answer the agents that hold agent subnets of the overlay of a number."""
        folder = of_overlay(SUBNETS, number)
        shards = [f"{folder}/{shard}" for shard in self._link.children(folder)]
        names = zip(shards, self._link.every_child(shards), strict=True)
        paths = [f"{shard}/{name}" for shard, held in names for name in held]
        found = zip(paths, self._link.every(paths), strict=True)
        return {read_holder(self._link.address, one.data, path) for path, one in found if one is not None}

    def _sweep(self) -> None:
        """Take away what is left of overlays that are gone; what an end leaves here goes with the next removal."""
        definitions, _ = self._ground.definitions()
        for folder in (SUBNETS, USES, f"{LINE}/{SUBNETS}"):
            for number in (int(name) for name in self._link.children(folder) if name.isdecimal()):
                if number not in definitions.names() and number < definitions.following:
                    self._link.remove_tree(of_overlay(folder, number))

    def _use(self, agent_ip: Address, names: Collection[str]) -> None:
        definitions, version = self._ground.definitions()
        wanted = frozenset(one.number for one in definitions.overlays if one.name in names)
        state = (self._link.epoch, self._ground.born, wanted)
        if state == self._used:
            return
        paths = {one.number: _use_of(one, agent_ip) for one in definitions.overlays}
        stats = dict(zip(paths, self._link.every_stat(list(paths.values())), strict=True))
        there = {number for number, stat in stats.items() if stat is not None}
        if wanted != there:
            changes = self._ground.transaction()
            changes.check(OVERLAYS, version)
            for number in wanted - there:
                changes.create(paths[number])
            for number in there - wanted:
                changes.delete(paths[number])
            self._ground.commit(changes, *(paths[number] for number in wanted - there))
        self._used = state


def _use_of(one: Definition, agent_ip: Address) -> str:
    return of_agent(of_overlay(USES, one.number), agent_ip)
