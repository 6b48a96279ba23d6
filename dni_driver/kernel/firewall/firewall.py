# SPDX-License-Identifier: Apache-2.0
"""Keeps this host's firewall as wanted: the nftables table and the iptables chain, put back when they differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import msgspec

from dni_driver.core.data_plane.entries import Entries
from dni_driver.core.errors import KernelError
from dni_driver.core.overlays import FAMILIES, Family
from dni_driver.core.wanted import Policy, Wanted
from dni_driver.kernel.command import attempt, run
from dni_driver.kernel.firewall import guests, iptables, nft, variants
from dni_driver.kernel.firewall.fingerprint import Memory
from dni_driver.kernel.firewall.iptables import docker_named
from dni_driver.kernel.firewall.variants import Variant
from dni_driver.kernel.ledger import Ledger
from dni_driver.kernel.netlink import nfnetlink

_TRIES = 2
_SET = re.compile(r"^\tset (\S+) \{$", re.MULTILINE)


class Around(msgspec.Struct, frozen=True):
    """The link by which other agents on it come directly, None where this one is alone; and who they are.

    `guests` answers None where only another process knows them.
    """

    underlay: str | None = None
    guests: Callable[[], Entries | None] = dict


class Firewall:
    """The firewall of this network namespace; its callers hold the lock of `Kernel`.

    nft lists a table otherwise than it was fed. So what it listed right after is remembered, in a file that all
    dni processes share: a table listed otherwise now has been changed. And while the kernel's count of changes to
    nftables stands still, nothing needs to be listed at all.
    """

    def __init__(self, run_dir: Path) -> None:
        """Keep the fingerprint in `run_dir`."""
        self._memory = Memory(run_dir / "firewall.json")
        self._agreed: tuple[object, ...] | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Let guests come or go inside the block: what this thread changes there is nothing to look into."""
        before, own = nfnetlink.generation(), nfnetlink.transactions()
        yield
        after, own = nfnetlink.generation(), nfnetlink.transactions() - own
        if self._agreed is not None and before is not None and after == before + own and self._agreed[0] == before:
            self._agreed = (after, *self._agreed[1:])

    def settle(self, wanted: Wanted, links: Iterable[str], around: Around, ledger: Ledger) -> None:
        """Make the firewall as wanted; `links` are the names of this host's links."""
        dockers = docker_named(links)
        sight = _sight(wanted, dockers, around.underlay)
        if sight is not None and sight == self._agreed:
            return
        before = ledger.entries
        with ledger.about(f"nft table {nft.TABLE}"):
            self._settle_table(wanted, around, ledger)
        for family in FAMILIES:
            with ledger.about(variants.PLAIN[family]):
                _settle_chain(family, wanted.policies, dockers, ledger)
        self._agreed = sight if ledger.entries == before else None

    def differences(self, wanted: Wanted, links: Iterable[str], around: Around) -> list[str]:
        """Answer in words what is missing or different."""
        dockers = docker_named(links)
        table = self._table_fault(wanted, nft.ruleset(wanted, around.underlay), _seen(wanted))
        found = [f"nft table {nft.TABLE} {table}"] if table else []
        for family in FAMILIES:
            for variant, rules in _chains(family, wanted.policies, dockers):
                found += [f"{variant.command}: {fault}" for fault in iptables.faults(rules, variant.listing)]
        return found

    def _settle_table(self, wanted: Wanted, around: Around, ledger: Ledger) -> None:
        fed = nft.ruleset(wanted, around.underlay)
        listed = _seen(wanted)
        fault = self._table_fault(wanted, fed, listed)
        if fault is None:
            return
        admitted = self._guests(around, listed)
        run(["nft", "-f", "-"], nft.ruleset(wanted, around.underlay, admitted or {}))
        if admitted is None:
            self._memory.forget()
        elif nft.is_needed(wanted):
            self._memory.remember(fed.encode(), (_listed() or "").encode())
        ledger.did(f"nft table {nft.TABLE} {fault}: {'put right' if nft.is_needed(wanted) else 'removed'}")

    def _guests(self, around: Around, listed: str | None) -> Entries | None:
        """Answer whom to let in; None where that cannot be told: then the table has to be made again by who can.

        Without knowing better, those whom the last complete table lets in: not where somebody deleted it.
        """
        if around.underlay is None:
            return {}
        known = around.guests()
        if known is not None:
            return known
        return guests.read() if self._memory.holds() and listed is not None else None

    def _table_fault(self, wanted: Wanted, fed: str, listed: str | None) -> str | None:
        """Answer in words how the table differs from what it should be; None where it does not."""
        if not nft.is_needed(wanted):
            return "is left over" if listed is not None else None
        if listed is None:
            return "is missing"
        return self._memory.fault(fed.encode(), listed.encode())


def _sight(wanted: Wanted, dockers: Sequence[str], underlay: str | None) -> tuple[object, ...] | None:
    """Answer all that the firewall follows from and is judged by; None where iptables keeps no count of changes."""
    generation = nfnetlink.generation()
    if generation is None or not variants.all_counted():
        return None
    return (
        generation,
        wanted.policies,
        wanted.overlay_subnets,
        tuple(dockers),
        wanted.overlays,
        wanted.vtep_subnet,
        underlay,
        wanted.agent,
    )


def _seen(wanted: Wanted) -> str | None:
    """Answer the table as it is listed; a host that needs none may be without nft, and then has none."""
    if not nft.is_needed(wanted) and which("nft") is None:
        return None
    return _listed()


def _listed() -> str | None:
    """Answer the table as nft lists it, without counters, and the elements of all sets but guests; None without."""
    outcome = attempt(["nft", "-s", "-t", "list", "table", *nft.TABLE.split()])
    if outcome.status == 0:
        return outcome.output + _elements(outcome.output)
    if "No such file or directory" in outcome.complaint:
        return None
    raise KernelError(f"nft cannot list its tables: {' '.join(outcome.complaint.split())}")


def _elements(listed: str) -> str:
    fixed = [name for name in _SET.findall(listed) if name not in nft.GUEST_SETS.values()]
    keys = nfnetlink.elements(nft.INET, fixed)
    return "\n".join(f"{name} {sorted(key.hex() for key in keys[name])}" for name in fixed)


def _settle_chain(family: Family, policies: Sequence[Policy], dockers: Sequence[str], ledger: Ledger) -> None:
    for variant, rules in _chains(family, policies, dockers):
        wrong = iptables.faults(rules, variant.listing)
        if wrong:
            _restore(variant, rules)
            ledger.did(f"{variant.command}: {', '.join(wrong)}: {'put right' if rules else 'removed'}")


def _restore(variant: Variant, rules: Sequence[str]) -> None:
    """Put our chain in place; once more where another program changed the table meanwhile."""
    for left in reversed(range(_TRIES)):
        try:
            run([variant.restore, "--noflush", "-w"], iptables.restore_text(rules, variant.listing))
        except KernelError:
            if not left:
                raise
            variant = variants.listed(variant.command)
        else:
            return


def _chains(family: Family, policies: Sequence[Policy], dockers: Sequence[str]) -> list[tuple[Variant, list[str]]]:
    """Answer each usable variant of iptables with the rules our chain should have there: in one, Docker's."""
    concerned = [policy for policy in policies if family in policy.families()]
    found = variants.usable(family, needed=bool(concerned))
    chosen = variants.docker_uses(found)
    return [(variant, _rules(variant, concerned, dockers) if variant is chosen else []) for variant in found]


def _rules(variant: Variant, policies: Sequence[Policy], dockers: Sequence[str]) -> list[str]:
    guarded = variant.listing.guarded_bridges.difference(bridge for policy in policies for bridge in policy.bridges)
    return iptables.chain_rules(policies, sorted(guarded.union(dockers))) if policies else []
