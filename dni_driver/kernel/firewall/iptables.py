# SPDX-License-Identifier: Apache-2.0
"""The iptables chain DNI-FORWARD: lets overlay traffic through a FORWARD chain that Docker set to DROP.

It opens nothing of Docker's: what leaves by one of Docker's own bridges goes back to Docker's rules. Who gets into
an overlay, and out of an internal one, is decided by the nftables table, which stands before. What an administrator
drops in DOCKER-USER stays dropped: that is asked first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

import msgspec

from dni_driver.core.wanted import Policy

CHAIN = "DNI-FORWARD"
_JUMP = f"-j {CHAIN}"
_DOCKER_LINK = re.compile(r"docker0|docker_gwbridge|br-[0-9a-f]{12}")
_FORWARD, _DOCKER_USER = "FORWARD", "DOCKER-USER"
_DOCKER_CHAINS = ("DOCKER", _DOCKER_USER)
_DOCKER_TARGETS = frozenset({"DOCKER", "DOCKER-CT", "DOCKER-BRIDGE"})
"""What Docker's rules call for each of its bridges: `-o docker0 -j DOCKER`, and by chain since 28."""


class Listing(msgspec.Struct, frozen=True):
    """The filter table as `iptables -S` lists it: its chains, its rules in their order, and FORWARD's policy."""

    chains: frozenset[str]
    rules: tuple[str, ...]
    policy: str = "ACCEPT"

    @property
    def is_dockers(self) -> bool:
        """Tell whether Docker keeps its rules here."""
        return any(chain in self.chains for chain in _DOCKER_CHAINS)

    @property
    def guarded_bridges(self) -> set[str]:
        """Answer the bridges that Docker's rules guard, whatever they are called."""
        return {bridge for rule in self.rules if (bridge := _guarded(rule))}

    @property
    def ours(self) -> list[str]:
        """Answer the rules of our chain."""
        return [rule for rule in self.rules if rule.startswith(f"-A {CHAIN} ")]

    @property
    def jumps(self) -> list[str]:
        """Answer the rules that jump to our chain."""
        return [rule for rule in self.rules if rule.endswith(_JUMP)]

    @property
    def forward(self) -> list[str]:
        """Answer the rules of FORWARD."""
        return [rule for rule in self.rules if rule.startswith(f"-A {_FORWARD} ")]

    @property
    def met(self) -> Iterator[str]:
        """Answer the rules of FORWARD, and before each jump to DOCKER-USER those that are asked there."""
        asked = [rule for rule in self.rules if rule.startswith(f"-A {_DOCKER_USER} ")]
        for rule in self.forward:
            if rule.endswith(f"-j {_DOCKER_USER}"):
                yield from takewhile(lambda one: one != f"-A {_DOCKER_USER} -j RETURN", asked)
            yield rule


def parse(text: str) -> Listing:
    """Read what `iptables -S` wrote."""
    lines = text.splitlines()
    chains = (line.split()[1] for line in lines if line.startswith(("-N ", "-P ")))
    policy = next((line.split()[2] for line in lines if line.startswith("-P FORWARD ")), "ACCEPT")
    return Listing(frozenset(chains), tuple(line for line in lines if line.startswith("-A ")), policy)


def docker_named(links: Iterable[str]) -> list[str]:
    """Answer the links that are Docker's own bridges by their names."""
    return sorted(link for link in links if _DOCKER_LINK.fullmatch(link))


def _guarded(rule: str) -> str | None:
    words = rule.split()
    if "-o" not in words or _DOCKER_TARGETS.isdisjoint((words[1], words[-1])):
        return None
    at = words.index("-o")
    return words[at + 1] if words[at - 1] != "!" else None


def chain_rules(policies: Sequence[Policy], dockers: Sequence[str]) -> list[str]:
    """Render the rules of our chain, word for word as `iptables -S` lists them.

    They are few, as each packet meets them one by one. To bridges that somebody else looks after leads no more than
    from ours of the same overlay.
    """
    matches = [f"-o {bridge} -j ACCEPT" for policy in policies for bridge in policy.bridges]
    matches += [
        f"-i {bridge} -o {other} -j ACCEPT"
        for policy in policies
        for other in policy.admitted
        for bridge in policy.bridges
    ]
    matches += [f"-o {docker} -j RETURN" for docker in dockers]
    matches += [f"-i {bridge} -j ACCEPT" for policy in policies for bridge in policy.bridges]
    return [f"-A {CHAIN} {match}" for match in matches]


def faults(rules: Sequence[str], listing: Listing) -> list[str]:
    """Answer in words how a filter table differs from one with these rules in our chain, jumped to from its place."""
    if not rules:
        return [f"chain {CHAIN} is left over"] if CHAIN in listing.chains else []
    if CHAIN not in listing.chains:
        return [f"chain {CHAIN} is missing"]
    found = [] if listing.ours == list(rules) else [f"chain {CHAIN} has other rules"]
    if not _is_in_place(listing):
        behind = f", behind {_DOCKER_USER}" if _place(listing) else ""
        found.append(f"chain {CHAIN} is not what {_FORWARD} jumps to once{behind}")
    return found


def _is_in_place(listing: Listing) -> bool:
    jump = f"-A {_FORWARD} {_JUMP}"
    return listing.jumps == [jump] and listing.forward.index(jump) >= _place(listing)


def _place(listing: Listing) -> int:
    """Answer how many rules of FORWARD must come before our jump: all that lead to what administrators decide.

    More may come there later: nobody's rules are fought over a place.
    """
    others = [rule for rule in listing.forward if not rule.endswith(_JUMP)]
    return max((number for number, rule in enumerate(others, 1) if rule.endswith(f"-j {_DOCKER_USER}")), default=0)


def restore_text(rules: Sequence[str], listing: Listing) -> str:
    """Answer what to feed `iptables-restore --noflush` to put our chain and its jump in their places, or away.

    The jump is in FORWARD itself: whenever a network is created, dockerd takes DOCKER-USER out of FORWARD and puts it
    back, and what is forwarded between the two would be dropped.
    """
    lines = [f"-D {jump.removeprefix('-A ')}" for jump in listing.jumps]
    if rules:
        lines = [f":{CHAIN} - [0:0]", *lines, *rules, f"-I {_FORWARD} {_place(listing) + 1} {_JUMP}"]
    elif CHAIN in listing.chains:
        lines = [f":{CHAIN} - [0:0]", *lines, f"-X {CHAIN}"]
    return "\n".join(["*filter", *lines, "COMMIT", ""])
