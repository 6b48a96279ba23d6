# SPDX-License-Identifier: Apache-2.0
"""Keeps the table that checks senders: its rules, and the elements of each container link, put back when they differ.

The rules are the same for all links. What a link may send as are elements of sets, added before the link is made
and removed behind it, whatever others there are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from dni_driver.core.errors import KernelError
from dni_driver.core.guard import Permits, permits
from dni_driver.core.overlays import Address
from dni_driver.core.wanted import Link, Wanted
from dni_driver.kernel.command import run
from dni_driver.kernel.firewall.fingerprint import Memory
from dni_driver.kernel.firewall.guard_table import NAME, REMOVAL, SETS, elements, ruleset
from dni_driver.kernel.ledger import Ledger, in_words
from dni_driver.kernel.netlink import nfnetlink
from dni_driver.kernel.netlink.nfnetlink import Elements, Table

_TABLE = Table(family=7, name=NAME.split()[1])
_FED = ruleset(permits(())).encode()
"""What the fingerprint remembers of what was fed: all but the elements."""
_NAME_SIZE = 16
_TRIES = 3


class Sight(msgspec.Struct, frozen=True):
    """The table as the kernel has it: what it looks like, None where there is none, and its elements."""

    structure: bytes | None
    elements: Elements


class Guard:
    """The check of senders in this network namespace; callers of `look` and `settle` hold the lock of `Kernel`."""

    def __init__(self, run_dir: Path) -> None:
        """Keep the fingerprint in `run_dir`."""
        self._memory = Memory(run_dir / "guard.json")
        self._last: tuple[int, Sight] | None = None
        self._agreed: tuple[Sight, bool, tuple[Link, ...]] | None = None
        self._admitted: dict[str, Elements] = {}

    def admit(self, links: Iterable[Link]) -> None:
        """Let links send as what is theirs; raise KernelError where one is to be checked and the table is missing."""
        allowed = permits(links)
        keys = _keys(allowed)
        self._admitted.update((host, _of_hosts(keys, {host})) for host in _hosts(keys))
        try:
            nfnetlink.add(_TABLE, keys)
        except FileNotFoundError:
            if allowed.macs:
                raise KernelError(f"nft table {NAME} is missing on this host: `dni repair` makes it again") from None
        except OSError as error:
            raise KernelError(f"nft table {NAME} cannot be changed: {in_words(error)}") from error

    def confine(self, links: Collection[Link]) -> None:
        """Have links send as no more than what is theirs, another of their container having gone; raise OSError."""
        right = _keys(permits(links))
        hosts = {link.host for link in links}
        known = [self._admitted[host] for host in hosts if host in self._admitted]
        before = _joined(known) if len(known) == len(hosts) else _of_hosts(_read().elements, hosts)
        _remove(_less(before, right))
        self._admitted.update((host, _of_hosts(right, {host})) for host in hosts)

    def withdraw(self, hosts: Collection[str]) -> None:
        """Remove what links may send as that are gone, by their host ends; raise OSError.

        What they were admitted with is remembered, as the sets are long where there are many containers; what others
        have changed since, or let in, is found by reading them.
        """
        known = [keys for host in hosts if (keys := self._admitted.pop(host, None))]
        if not known or not _removed(_joined(known)) or len(known) < len(hosts):
            _remove(_of_hosts(_read().elements, hosts))

    def look(self) -> Sight:
        """Answer the table as it is now; it is read only where nftables has changed since the last look."""
        now = nfnetlink.generation()
        if now is None or self._last is None or self._last[0] != now:
            self._last = (now or 0, _read())
        return self._last[1]

    def settle(self, wanted: Wanted, seen: Sight, read_wanted: Callable[[], Wanted], ledger: Ledger) -> None:
        """Make the table as wanted.

        `seen` was looked at before `wanted` was read: what only the table has is really left over. A table that is
        made anew has the elements of `wanted`, and those of containers that came meanwhile by `read_wanted`.
        """
        if (
            self._agreed is not None
            and self._agreed[0] is seen
            and self._agreed[1:] == (wanted.guarded, wanted.links)
        ):
            return
        before = ledger.entries
        with ledger.about(f"nft table {NAME}"):
            fault = self._fault(wanted, seen)
            if fault is not None:
                self._make(wanted)
                ledger.did(f"nft table {NAME} {fault}: {'put right' if wanted.guarded else 'removed'}")
                seen, wanted = self.look(), read_wanted()
            if wanted.guarded:
                _settle_elements(wanted, seen.elements, ledger)
        self._agreed = (seen, wanted.guarded, wanted.links) if ledger.entries == before else None

    def differences(self, wanted: Wanted) -> list[str]:
        """Answer in words what is missing or different."""
        seen = self.look()
        fault = self._fault(wanted, seen)
        if fault is not None:
            return [f"nft table {NAME} {fault}"]
        if not wanted.guarded:
            return []
        return [f"nft table {NAME}: link {host} {fault}" for host, fault in _element_faults(wanted, seen.elements)]

    def _fault(self, wanted: Wanted, seen: Sight) -> str | None:
        if not wanted.guarded:
            return "is left over" if seen.structure is not None else None
        return "is missing" if seen.structure is None else self._memory.fault(_FED, seen.structure)

    def _make(self, wanted: Wanted) -> None:
        if not wanted.guarded:
            run(["nft", "-f", "-"], REMOVAL)
            return
        run(["nft", "-f", "-"], ruleset(permits(wanted.links)))
        self._memory.remember(_FED, self.look().structure or b"")


def _removed(unwanted: Elements) -> bool:
    """Remove elements, all or none: False where one of them is not there."""
    with suppress(FileNotFoundError):
        nfnetlink.remove(_TABLE, unwanted)
        return True
    return False


def _remove(unwanted: Elements) -> None:
    """Remove elements; those that somebody else has removed meanwhile keep none of the others."""
    for _ in range(_TRIES):
        if _removed(unwanted):
            return
        there = _read().elements
        unwanted = {name: keys & there.get(name, frozenset()) for name, keys in unwanted.items()}


def _read() -> Sight:
    """Read the table; a kernel that cannot be asked has none: one without nftables, for example."""
    try:
        return Sight(nfnetlink.structure(_TABLE), nfnetlink.elements(_TABLE, SETS))
    except OSError:
        return Sight(None, {})


def _settle_elements(wanted: Wanted, there: Elements, ledger: Ledger) -> None:
    right = _keys(permits(wanted.links))
    nfnetlink.add(_TABLE, _less(right, there))
    _remove(_less(there, right))
    known = {link.host for link in wanted.links}
    for host, fault in _element_faults(wanted, there):
        if host in known:
            ledger.did(f"nft table {NAME}: link {host} {fault}: put right")


def _element_faults(wanted: Wanted, there: Elements) -> Iterator[tuple[str, str]]:
    """Answer in words which links may not send as they should."""
    right = _keys(permits(wanted.links))
    known = {link.host for link in wanted.links}
    strange = _hosts(_less(there, right))
    for host in sorted(_hosts(_less(right, there))):
        yield host, "may not send as all that is its own"
    for host in sorted(strange & known):
        yield host, "may send as more than its own"
    for host in sorted(strange - known):
        yield host, "is gone, but not what it may send as"


def _less(some: Elements, others: Elements) -> Elements:
    return {name: keys - others.get(name, frozenset()) for name, keys in some.items()}


def _of_hosts(some: Elements, hosts: Collection[str]) -> Elements:
    return {name: frozenset(key for key in keys if _host(key) in hosts) for name, keys in some.items()}


def _joined(many: Iterable[Elements]) -> Elements:
    return {name: frozenset(key for one in many for key in one.get(name, ())) for name in SETS}


def _hosts(keys_of: Elements) -> set[str]:
    return {_host(key) for keys in keys_of.values() for key in keys}


def _host(key: bytes) -> str:
    return key[:_NAME_SIZE].rstrip(b"\0").decode(errors="replace")


def _keys(permits: Permits) -> Elements:
    """Answer the elements of the table as the kernel keeps them: each part at a multiple of 4 bytes."""
    found: dict[str, set[bytes]] = {name: set() for name in SETS}
    for name, (host, *owned) in elements(permits):
        found[name].add(b"".join([str(host).encode().ljust(_NAME_SIZE, b"\0"), *map(_packed, owned)]))
    return {name: frozenset(keys) for name, keys in found.items()}


def _packed(owned: str | Address) -> bytes:
    return bytes.fromhex(owned.replace(":", "")) + b"\0\0" if isinstance(owned, str) else owned.packed
