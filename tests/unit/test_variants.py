# SPDX-License-Identifier: Apache-2.0
"""Which variants of iptables a host uses: a legacy table that nobody needs is not even looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dni_driver.kernel.firewall import variants

LISTED = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n"


class Tools:
    """The programs of a host, of which `legacy` speak to the legacy tables, and what was listed of them."""

    def __init__(self, proc: Path) -> None:
        """Have Debian's, where the plain command speaks to nftables."""
        self.there = {"iptables", "iptables-nft", "iptables-legacy", "ip6tables", "ip6tables-nft"}
        self.legacy = {"iptables-legacy"}
        self.proc = proc

    def which(self, program: str) -> str | None:
        """Answer where a program is."""
        return f"/usr/sbin/{program}" if program in self.there else None

    def run(self, words: Sequence[str]) -> str:
        """Answer what a program writes."""
        if words[1] == "--version":
            return f"{words[0]} v1.8.9 ({'legacy' if words[0] in self.legacy else 'nf_tables'})"
        return LISTED

    def use_legacy(self, tables: str) -> None:
        """Have the kernel name the legacy tables that are in use."""
        (self.proc / "ip_tables_names").write_text(tables)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tools]:
    made = Tools(tmp_path)
    monkeypatch.setattr(variants, "_PROC", tmp_path)
    monkeypatch.setattr(variants, "which", made.which)
    monkeypatch.setattr(variants, "run", made.run)
    variants._is_legacy.cache_clear()  # noqa: SLF001 - another host
    yield made
    variants._is_legacy.cache_clear()  # noqa: SLF001


def commands(*, needed: bool = True) -> list[str]:
    return [variant.command for variant in variants.usable(4, needed=needed)]


def test_where_the_plain_command_speaks_to_nftables_legacy_tables_are_used_only_where_there_are_some(
    tools: Tools,
) -> None:
    assert commands() == ["iptables"]
    tools.use_legacy("\n")
    assert commands() == ["iptables"]
    tools.use_legacy("filter\n")
    assert commands() == ["iptables", "iptables-legacy"]
    tools.there.remove("iptables-legacy")
    assert commands() == ["iptables"]


def test_where_the_plain_command_is_the_legacy_one_it_is_used_where_rules_are_needed_or_there_are_some(
    tools: Tools,
) -> None:
    tools.legacy.add("iptables")
    assert commands(needed=False) == ["iptables-nft"]
    assert commands(needed=True) == ["iptables", "iptables-nft"]
    tools.use_legacy("filter\n")
    assert commands(needed=False) == ["iptables", "iptables-nft"]
    tools.there.remove("iptables-nft")
    assert commands(needed=False) == ["iptables"]


def test_a_host_without_iptables_or_without_ipv6_has_none(tools: Tools) -> None:
    assert variants.usable(6, needed=True) == []
    (tools.proc / "if_inet6").write_text("")
    assert [variant.command for variant in variants.usable(6, needed=True)] == ["ip6tables"]
    tools.there.remove("iptables")
    assert commands() == []
