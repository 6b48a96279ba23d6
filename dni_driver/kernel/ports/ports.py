# SPDX-License-Identifier: Apache-2.0
"""Keeps the table of published ports: there while any port is published, put back when it differs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from ipaddress import ip_address
from pathlib import Path

import msgspec

from dni_driver.core.ports import HostPort
from dni_driver.core.wanted import Wanted
from dni_driver.kernel import sysctl
from dni_driver.kernel.command import run
from dni_driver.kernel.firewall.fingerprint import Memory
from dni_driver.kernel.ledger import Ledger
from dni_driver.kernel.netlink import nfnetlink
from dni_driver.kernel.netlink.nfnetlink import Table
from dni_driver.kernel.ports import table
from dni_driver.kernel.ports.table import MAPS, NAME, Entry, Neighbour

_TABLE = Table(family=1, name=NAME.split()[1])
_ROUTE_LOCALNET = "ipv4/conf/{}/route_localnet"


class Sight(msgspec.Struct, frozen=True):
    """The table as the kernel has it: what it looks like, None where there is none, and its elements."""

    structure: bytes | None
    entries: frozenset[Entry] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()


class Ports:
    """The published ports of this network namespace; its callers hold the lock of `Kernel`."""

    def __init__(self, run_dir: Path) -> None:
        """Keep the fingerprint in `run_dir`."""
        self._memory = Memory(run_dir / "ports.json")
        self._last: tuple[int, Sight] | None = None

    def settle(self, wanted: Wanted, ledger: Ledger, note: Callable[[str], None]) -> Collection[HostPort]:
        """Make the table as wanted, in one transaction, and let this host's loopback through to containers.

        What was changed is noted in words. Answers the ports that lead elsewhere now, for `conntrack.forget`, which
        takes its time and needs no lock.
        """
        changed: set[HostPort] = set()
        with ledger.about(f"nft table {NAME}"):
            seen = self._look(wanted)
            fault = self._fault(wanted, seen)
            if fault is not None:
                self._make(wanted)
                changed = {at for at, _, _ in seen.entries | table.entries(wanted.ports)}
                note(f"nft table {NAME} {fault}: {'put right' if wanted.ports else 'removed'}")
            else:
                changed = _exchange(wanted, seen, note)
        _open_loopback(wanted, ledger, note)
        return changed

    def differences(self, wanted: Wanted) -> list[str]:
        """Answer in words what is missing or different."""
        seen = self._look(wanted)
        fault = self._fault(wanted, seen)
        if fault is not None:
            return [f"nft table {NAME} {fault}"]
        found = [f"nft table {NAME}: {words}" for words in _faults(wanted, seen)]
        return found + [
            f"net.ipv4.conf.{bridge}.route_localnet is not {value}"
            for bridge, value in _loopback(wanted)
            if sysctl.read(_ROUTE_LOCALNET.format(bridge)) not in (value, None)
        ]

    def _look(self, wanted: Wanted) -> Sight:
        """Answer the table as it is now; it is read only where nftables has changed since the last look."""
        now = nfnetlink.generation()
        if now is None or self._last is None or self._last[0] != now:
            self._last = (now or 0, _read(wanted))
        return self._last[1]

    def _fault(self, wanted: Wanted, seen: Sight) -> str | None:
        if not wanted.ports:
            return "is left over" if seen.structure is not None else None
        return "is missing" if seen.structure is None else self._memory.fault(_fed(wanted), seen.structure)

    def _make(self, wanted: Wanted) -> None:
        if not wanted.ports:
            run(["nft", "-f", "-"], table.REMOVAL)
            return
        run(["nft", "-f", "-"], table.ruleset(wanted.bridges, wanted.ports))
        self._memory.remember(_fed(wanted), self._look(wanted).structure or b"")


def _fed(wanted: Wanted) -> bytes:
    return table.structure(wanted.bridges).encode()


def _read(wanted: Wanted) -> Sight:
    """Read the table; a kernel that cannot be asked has none: one without nftables, for example."""
    try:
        structure = nfnetlink.structure(_TABLE)
        if structure is None:
            return Sight(None)
        entries = [table.parsed(name, *pair) for name in MAPS for pair in nfnetlink.pairs(_TABLE, name)]
        sets = table.neighbour_sets(wanted.bridges)
        elements = nfnetlink.elements(_TABLE, sets)
        neighbours = [(sets[name], ip_address(key)) for name, keys in elements.items() for key in keys]
        return Sight(structure, frozenset(entries), frozenset(neighbours))
    except FileNotFoundError:
        # Somebody has taken a map out of it, or it is one for other bridges: it has another structure than it should.
        return Sight(b"")
    except OSError:
        return Sight(None)


def _exchange(wanted: Wanted, seen: Sight, note: Callable[[str], None]) -> set[HostPort]:
    right = table.entries(wanted.ports)
    gone, new = seen.entries - right, right - seen.entries
    near = table.neighbours(wanted.ports, wanted.bridges)
    changes = table.changes(gone, new) + table.meetings(seen.neighbours - near, near - seen.neighbours)
    if changes:
        run(["nft", "-f", "-"], changes)
    for words in _faults(wanted, seen):
        note(f"nft table {NAME}: {words}: put right")
    return {at for at, _, _ in gone | new}


def _faults(wanted: Wanted, seen: Sight) -> Iterator[str]:
    right = table.entries(wanted.ports)
    missing = {at for at, _, _ in right - seen.entries}
    extra = {at for at, _, _ in seen.entries - right}
    yield from (f"port {at} {'leads elsewhere' if at in extra else 'is missing'}" for at in sorted(missing, key=str))
    yield from (f"port {at} is left over" for at in sorted(extra - missing, key=str))
    near = table.neighbours(wanted.ports, wanted.bridges)
    for bridge, target in sorted(near - seen.neighbours, key=str):
        yield f"neighbours of {target} on {bridge} are missing"
    for bridge, target in sorted(seen.neighbours - near, key=str):
        yield f"neighbours of {target} on {bridge} are left over"


def _open_loopback(wanted: Wanted, ledger: Ledger, note: Callable[[str], None]) -> None:
    for bridge, value in _loopback(wanted):
        with ledger.about(f"loopback to {bridge}", bridge):
            if sysctl.ensure(_ROUTE_LOCALNET.format(bridge), value):
                note(f"net.ipv4.conf.{bridge}.route_localnet set to {value}")


def _loopback(wanted: Wanted) -> Iterator[tuple[str, str]]:
    """Answer for each bridge whether packets from 127.0.0.1 may leave by it: where a port there leads to it."""
    led_to = {one.bridge for one in wanted.ports if one.at.ip.is_unspecified or one.at.ip.is_loopback}
    return ((bridge.name, "1" if bridge.name in led_to else "0") for bridge in wanted.bridges)
