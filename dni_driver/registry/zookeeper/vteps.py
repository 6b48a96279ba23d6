# SPDX-License-Identifier: Apache-2.0
"""Where VTEPs come from, and the lowest that is free."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

import msgspec

from dni_driver.core.data_plane import vteps
from dni_driver.core.overlays import VTEP_SUBNET, Address, Overlay
from dni_driver.core.peers import Vtep
from dni_driver.registry.interface import Host
from dni_driver.registry.zookeeper import journal
from dni_driver.registry.zookeeper.damage import not_understood, read_holder
from dni_driver.registry.zookeeper.ground import Ground
from dni_driver.registry.zookeeper.layout import FORMAT, OTHER_VTEPS, OVERLAYS, VTEPS, Entry, has_other_vteps, of_vtep
from dni_driver.registry.zookeeper.link import Changes
from dni_driver.registry.zookeeper.numbers import Numbered, Search
from dni_driver.registry.zookeeper.turn import Turn


class Range(msgspec.Struct, frozen=True):
    """The subnet of all VTEPs, and the version of the node that says so; `is_recorded`: it does."""

    subnet: IPv4Network
    version: int
    is_recorded: bool = True


class Vteps:
    """Finds and gives."""

    def __init__(self, ground: Ground) -> None:
        """Take what it stands on."""
        self._ground = ground
        self._link = ground.link

    def range(self, host: Host | None = None) -> Range:
        """Answer where VTEPs come from; in a registry that has none yet, where those of this host would."""
        found = self._link.get(VTEPS)
        if found is None:
            raise self._ground.missing(VTEPS)
        if found.data:
            return Range(self._read(found.data), found.version)
        if host is None or self._is_any_given():
            return Range(VTEP_SUBNET, found.version)
        return Range(vteps.chosen(host.vtep_subnet, host.vtep), found.version, is_recorded=False)

    def _is_any_given(self) -> bool:
        """Tell whether an agent has a VTEP: the folder of one is made before, by all who join at once."""
        folders = [f"{VTEPS}/{name}" for name in self._link.children(VTEPS)]
        return any(stat is not None and stat.numChildren for stat in self._link.every_stat(folders))

    def held(self, host: Host, known: Range) -> Vtep | None:
        """Answer the VTEP that an agent had, where it has it still although its record is gone."""
        had = vteps.kept(host.vtep, known.subnet)
        node = self._link.get(of_vtep(had.ip)) if had is not None else None
        return had if node is not None and node.data == str(host.agent_ip).encode() else None

    def is_kept(self, vtep: Vtep, agent_ip: Address) -> bool:
        """Tell whether others are kept from an agent's VTEP: somebody may have deleted the node that does."""
        path = of_vtep(vtep.ip)
        node = self._link.get(path)
        return node is not None and read_holder(self._link.address, node.data, path) == agent_ip

    def free(self, host: Host, known: Range, turn: Turn) -> Vtep:
        """Answer the VTEP that an agent had, where nobody has it, else the lowest that is free; raise Exhausted."""
        had = vteps.kept(host.vtep, known.subnet)
        if had is not None and self._link.exists(of_vtep(had.ip)) is None:
            return had
        number = turn.number(Search(self._link, _numbered(known.subnet)))
        if number is None:
            raise vteps.exhausted(known.subnet)
        return vteps.vtep_in(known.subnet.network_address + number, known.subnet)

    def give(self, changes: Changes, vtep: Vtep, known: Range, agent_ip: Address) -> None:
        """Have a transaction note who has a VTEP, while all come from that subnet; the first one settles that.

        The agent was admitted before, in the same transaction.
        """
        if known.is_recorded:
            changes.check(VTEPS, known.version)
        else:
            self._settle(changes, known.subnet, known.version)
            if known.subnet != VTEP_SUBNET:
                changes.put(FORMAT, self._ground.format_for(agent_ip, other_vteps=True), -1)
        changes.create(of_vtep(vtep.ip), str(agent_ip).encode())

    def widen(self, subnet: IPv4Network) -> None:
        """Have VTEPs come from a wider subnet (Registry.widen_vteps)."""
        self._ground.settled(lambda: self._widen(subnet))

    def check_apart(self, changes: Changes, overlays: Iterable[Overlay]) -> None:
        """Have a transaction go on only while no overlay has addresses of the VTEPs; raise InUse where one does."""
        known = self.range()
        vteps.check_apart(known.subnet, overlays)
        changes.check(VTEPS, known.version)

    def _widen(self, subnet: IPv4Network) -> None:
        known = self.range()
        if subnet == known.subnet:
            return
        definitions, version = self._ground.definitions()
        vteps.check_widening(known.subnet, subnet, definitions.every())
        changes = self._ground.transaction()
        changes.check(OVERLAYS, version)
        changes.put(VTEPS, str(subnet).encode(), known.version)
        self._mark(changes)
        # Everybody looks at everything that is the same for all, and at this with it.
        journal.append(changes, Entry())
        self._ground.commit(changes)

    def _settle(self, changes: Changes, subnet: IPv4Network, version: int) -> None:
        definitions, overlays_version = self._ground.definitions()
        vteps.check_apart(subnet, definitions.every())
        changes.check(OVERLAYS, overlays_version)
        changes.put(VTEPS, str(subnet).encode(), version)

    def _read(self, data: bytes) -> IPv4Network:
        try:
            return IPv4Network(data.decode())
        except ValueError as error:
            raise not_understood(self._link.address, VTEPS, error) from None

    def _mark(self, changes: Changes) -> None:
        """Have the registry be for those alone who know that VTEPs may come from another subnet."""
        found = self._link.get(FORMAT)
        if found is None:
            raise self._ground.missing(FORMAT)
        version = self._ground.version(found.data)
        if not has_other_vteps(version):
            changes.put(FORMAT, str(version + OTHER_VTEPS).encode(), found.version)


def _numbered(subnet: IPv4Network) -> Numbered:
    start = int(subnet.network_address)
    return Numbered(
        folder=VTEPS,
        first=1,
        last=subnet.num_addresses - 2,
        number_of=lambda name: int(IPv4Address(name)) - start,
    )
