# SPDX-License-Identifier: Apache-2.0
"""The overlays of the cluster: all in one node, so that no two of them can come to overlap."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from dni_driver.core.overlays import Address, Backend, Overlay
from dni_driver.registry.interface import check_widening, is_defined, with_backend
from dni_driver.registry.zookeeper.ground import Ground
from dni_driver.registry.zookeeper.layout import OVERLAYS, SUBNETS, USES, check_given, of_overlay, use_of
from dni_driver.registry.zookeeper.vteps import Vteps

_Told = tuple[int, int, Address | None, frozenset[int]]
"""A session, which registry it found, an agent, and what that uses by number."""
_UNTOLD: _Told = (-1, -1, None, frozenset())


class Overlays:
    """Defines and changes."""

    def __init__(self, ground: Ground) -> None:
        """Take what it stands on."""
        self._ground = ground
        self._link = ground.link
        self._vteps = Vteps(ground)
        self._used: _Told = _UNTOLD

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

    def use(self, agent_ip: Address, names: Collection[str]) -> None:
        """Say which overlays an agent uses (Registry.use)."""
        self._ground.settled(lambda: self._use(agent_ip, names))

    def forget_told_uses(self) -> None:
        """Have the next `use` look at what is recorded, whatever was told before."""
        self._used = _UNTOLD

    def _define(self, overlay: Overlay) -> None:
        definitions, version = self._ground.definitions()
        check_given(definitions.named(overlay.name))
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
        check_given(definitions.named(overlay.name))
        if overlay in definitions.every():
            return
        changes = self._ground.transaction()
        self._vteps.check_apart(changes, [overlay])
        self._ground.put_definitions(changes, definitions.with_one(overlay), version)
        self._ground.commit(changes)

    def _use(self, agent_ip: Address, names: Collection[str]) -> None:
        definitions, version = self._ground.definitions()
        wanted = frozenset(one.number for one in definitions.overlays if one.name in names)
        state = (self._link.epoch, self._ground.born, agent_ip, wanted)
        if state == self._used:
            return
        paths = {one.number: use_of(one.number, agent_ip) for one in definitions.overlays}
        stats = dict(zip(paths, self._link.every_stat(list(paths.values())), strict=True))
        there = {number for number, stat in stats.items() if stat is not None}
        if wanted != there:
            changes = self._ground.transaction()
            changes.check(OVERLAYS, version)
            self._ground.check_known(changes, agent_ip)
            for number in wanted - there:
                changes.create(paths[number])
            for number in there - wanted:
                changes.delete(paths[number])
            self._ground.commit(changes, *(paths[number] for number in wanted - there))
        self._used = state
