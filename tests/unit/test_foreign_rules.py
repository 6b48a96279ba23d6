# SPDX-License-Identifier: Apache-2.0
"""Which chains of others drop what is forwarded, read from what nft lists."""

from __future__ import annotations

import pytest

from dni_driver.core.doctor.facts import ForwardChain
from dni_driver.kernel.doctor.foreign_rules import forward_chains
from dni_driver.kernel.firewall.iptables import parse

RULESET = """\
table ip filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		counter packets 0 bytes 0 jump DOCKER-USER
	}
}
table inet dni {
	chain forward {
		type filter hook forward priority filter - 1; policy drop;
	}
}
table ip docker-bridges {
	chain filter-FORWARD {
		type filter hook forward priority filter; policy drop;
	}
}
table bridge strange {
	chain forward {
		type filter hook forward priority filter; policy drop;
	}
}
"""


def found(ruleset: str) -> list[ForwardChain]:
    return list(forward_chains(ruleset))


def table(*lines: str, name: str = "inet filter", chain: str = "forward") -> str:
    body = "".join(f"\t\t{line}\n" for line in lines)
    return f"table {name} {{\n\tchain {chain} {{\n{body}\t}}\n\n\tchain input {{\n\t\tdrop\n\t}}\n}}\n"


HOOK = "type filter hook forward priority filter; policy"


def test_rules_of_iptables_of_docker_of_dni_and_of_bridges_are_no_others() -> None:
    assert found(RULESET) == []


@pytest.mark.parametrize(
    "lines",
    [
        (f"{HOOK} drop;",),
        (f"{HOOK} drop;", 'iifname "eth1" accept'),
        (f"{HOOK} accept;", "ct state established accept", "drop"),
        (f"{HOOK} accept;", "counter packets 7 bytes 588 reject with icmpx admin-prohibited"),
        (f"{HOOK} accept;", "counter drop"),
    ],
)
def test_a_chain_that_drops_what_it_does_not_accept_is_found(lines: tuple[str, ...]) -> None:
    assert found(table(*lines)) == [ForwardChain(table="inet filter", name="forward", mentions=frozenset())]


@pytest.mark.parametrize(
    "lines",
    [
        (f"{HOOK} accept;",),
        (f"{HOOK} accept;", 'iifname "eth1" drop'),
        ("type filter hook input priority filter; policy drop;",),
        ("type nat hook postrouting priority srcnat; policy accept;", "drop"),
        ("drop",),
    ],
)
def test_a_chain_that_lets_pass_what_it_does_not_know_is_none(lines: tuple[str, ...]) -> None:
    assert found(table(*lines)) == []


def test_a_chain_of_ones_own_in_a_table_of_iptables_is_found() -> None:
    assert [chain.name for chain in found(table(f"{HOOK} drop;", name="ip filter"))] == ["forward"]
    assert found(table(f"{HOOK} drop;", name="ip filter", chain="FORWARD")) == []


def test_the_bridges_that_a_table_mentions_anywhere_are_told() -> None:
    (chain,) = found(table(f"{HOOK} drop;", 'iifname { "d-dcos", "docker0" } accept', 'oifname "d-*" accept'))
    assert chain.mentions == {"d-dcos", "d-*"}


def test_the_policy_of_forward_is_read_from_iptables() -> None:
    assert parse("-P INPUT DROP\n-P FORWARD DROP\n-N DOCKER\n").policy == "DROP"
    assert parse("-N DOCKER\n").policy == "ACCEPT"
