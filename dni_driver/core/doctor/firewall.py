# SPDX-License-Identifier: Apache-2.0
"""Whose rules keep containers on dni from being reached. Each judge: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from dni_driver.core.doctor.ailments import Ailment, error
from dni_driver.core.doctor.facts import Facts, ForwardChain, RuleSet
from dni_driver.core.names import docker_bridge

NO_COMMAND = error("firewall-command-missing", "no network can be created: dni cannot write its rules")
SECOND_SET = error("second-iptables", "what is forwarded is dropped: it must pass the rules of both variants")
BLOCKED = error("forward-blocked", "what is forwarded is dropped before dni's rules are asked")
STRANGE_CHAIN = error(
    "foreign-forward-drop",
    "what is forwarded is dropped, whatever dni's own rules accept",
)

KINDS = (NO_COMMAND, SECOND_SET, BLOCKED, STRANGE_CHAIN)

_OWN, _DOCKERS = "-j DNI-FORWARD", "-j DOCKER-USER"
"""How a rule ends that leads to dni's own, and one that dni puts that behind; without either, dni's comes first."""
_STOPS = tuple(f"-A {chain} -j {end} " for chain in ("FORWARD", "DOCKER-USER") for end in ("DROP", "REJECT"))
"""How a rule with a space behind it begins that drops all: a chain of somebody's may be called DROP_INVALID."""
_PACKAGES = {"nft": "nftables"}
_FIREWALLD = "inet firewalld"


def missing_commands(facts: Facts) -> Iterator[Ailment]:
    """Find programs that dni runs and that are not installed."""
    for command in facts.firewall.missing_commands if facts.firewall else ():
        package = _PACKAGES.get(command, "iptables")
        yield NO_COMMAND.found(f"the program {command}", "is not installed", f"apt-get install {package}")


def rule_sets(facts: Facts) -> Iterator[Ailment]:
    """Find what drops forwarded packets in iptables: in the variant that is not Docker's, or ahead of dni's rules."""
    for family in (4, 6):
        found = [one for one in (facts.firewall.rule_sets if facts.firewall else ()) if one.family == family]
        chosen = next((one for one in found if one.is_dockers), next(iter(found), None))
        for one in found:
            yield from _blocked(one) if one is chosen else _second(one)


def _blocked(rules: RuleSet) -> Iterator[Ailment]:
    way = next((way for way in (_OWN, _DOCKERS) if any(rule.endswith(way) for rule in rules.forward)), None)
    ahead = takewhile(lambda rule: not rule.endswith(way), rules.forward) if way else ()
    for block in filter(_stops_all, ahead):
        yield BLOCKED.found(rules.command, f"has `{block}` before dni's rules", _deletion(rules, block))


def _second(rules: RuleSet) -> Iterator[Ailment]:
    if rules.policy != "ACCEPT":
        yield SECOND_SET.found(
            rules.command,
            f"has FORWARD policy {rules.policy}, and Docker's rules are in the other variant",
            f"{rules.command} -P FORWARD ACCEPT",
        )
    for block in filter(_stops_all, rules.forward):
        yield SECOND_SET.found(
            rules.command, f"has `{block}`, and Docker's rules are in the other variant", _deletion(rules, block)
        )


def _stops_all(rule: str) -> bool:
    """Tell whether a rule drops whatever comes to it."""
    return f"{rule} ".startswith(_STOPS)


def _deletion(rules: RuleSet, block: str) -> str:
    return f"{rules.command} -D {block.removeprefix('-A ')}"


def strange_chains(facts: Facts) -> Iterator[Ailment]:
    """Find nftables chains of somebody else's that drop what they do not accept, and do not know dni's bridges."""
    bridges = _bridges(facts)
    for chain in facts.firewall.forward_chains if facts.firewall else ():
        unknown = [] if "d-*" in chain.mentions else [bridge for bridge in bridges if bridge not in chain.mentions]
        if unknown:
            yield STRANGE_CHAIN.found(
                f"nft chain {chain.table} {chain.name}",
                f"drops what it does not accept, and does not know {', '.join(unknown)}",
                _acquaintance(chain, unknown),
            )


def _bridges(facts: Facts) -> list[str]:
    """Answer the bridges there are; before the first, all that there may be."""
    records = facts.records
    return (
        [docker_bridge(network.overlay) for network in records.networks] if records and records.networks else ["d-*"]
    )


def _acquaintance(chain: ForwardChain, bridges: Sequence[str]) -> str:
    """Answer the command that has a chain accept dni's bridges; who may come in is decided by dni's own table."""
    if chain.table == _FIREWALLD:
        added = " ".join(f"--add-interface={bridge}" for bridge in bridges)
        return f"firewall-cmd --permanent --zone=trusted {added} && firewall-cmd --reload"
    rules = (f"nft 'insert rule {chain.table} {chain.name} {way} \"d-*\" accept'" for way in ("iifname", "oifname"))
    return " && ".join(rules)
