# SPDX-License-Identifier: Apache-2.0
"""Other programs' firewall rules that a forwarded packet meets: read only, for `dni doctor`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from shutil import which

import msgspec

from dni_driver.core.doctor.facts import FirewallFacts, ForwardChain, RuleSet
from dni_driver.core.overlays import FAMILIES, Family
from dni_driver.kernel.command import run
from dni_driver.kernel.firewall import variants

_COMMANDS = ("nft", "iptables")
_OF_IPTABLES = {f"{family} {name}" for family in ("ip", "ip6") for name in ("filter", "mangle", "raw", "security")}
_OTHERS = re.compile(r"(inet|ip6?) (?!dni|docker)")
_BRIDGE = re.compile(r'"(d-[^"]+)"')
_DROPS = re.compile(r"(counter packets \d+ bytes \d+ |counter )?(drop|reject\b.*)")


class _Chain(msgspec.Struct):
    """A chain as nft lists it, line by line."""

    name: str
    lines: list[str]

    def drops(self) -> bool:
        """Tell whether it decides on forwarded packets, and drops what it does not accept."""
        kind, *rules = self.lines or [""]
        if "hook forward" not in kind:
            return False
        return "policy drop" in kind or (bool(rules) and _DROPS.fullmatch(rules[-1]) is not None)


def look() -> FirewallFacts:
    """Read the rules of iptables' variants, and of nftables; raise KernelError where that is not allowed."""
    missing = tuple(command for command in _COMMANDS if which(command) is None)
    return FirewallFacts(
        rule_sets=() if "iptables" in missing else tuple(_rule_sets()),
        forward_chains=() if "nft" in missing else tuple(forward_chains(run(["nft", "-s", "list", "ruleset"]))),
        missing_commands=missing,
    )


def _rule_sets() -> Iterator[RuleSet]:
    for family in FAMILIES:
        for variant in variants.usable(family, needed=False):
            yield _rule_set(variant, family)


def _rule_set(variant: variants.Variant, family: Family) -> RuleSet:
    listing = variant.listing
    return RuleSet(
        command=variant.command,
        family=family,
        is_dockers=listing.is_dockers,
        policy=listing.policy,
        forward=tuple(listing.met),
    )


def forward_chains(ruleset: str) -> Iterator[ForwardChain]:
    """Read what `nft list ruleset` wrote: the chains of others that drop what is forwarded and not accepted there."""
    for table, text in _tables(ruleset):
        if _OTHERS.match(table):
            mentions = frozenset(_BRIDGE.findall(text))
            for chain in _chains(text):
                if chain.drops() and not (table in _OF_IPTABLES and chain.name == "FORWARD"):
                    yield ForwardChain(table=table, name=chain.name, mentions=mentions)


def _tables(ruleset: str) -> Iterator[tuple[str, str]]:
    """Cut a listing into its tables: each begins and ends at the margin."""
    for found in re.finditer(r"^table (\S+ \S+) \{\n(.*?)^\}", ruleset, re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def _chains(table: str) -> Iterator[_Chain]:
    for found in re.finditer(r"^\tchain (\S+) \{\n(.*?)^\t\}", table, re.MULTILINE | re.DOTALL):
        yield _Chain(found[1], [line.strip() for line in found[2].splitlines() if line.strip()])
