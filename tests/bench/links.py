# SPDX-License-Identifier: Apache-2.0
"""Links as fast as those of common network cards: between namespaces nothing but the processor is the limit."""

from __future__ import annotations

from collections.abc import Callable

LINKS = {"10gbit": "burst 1m latency 10ms", "1gbit": "burst 128k latency 10ms"}
"""How fast the links of hosts are, and their queues, in the words of tc."""


def slow_down(sh: Callable[[str], str], link: str) -> None:
    """Have every port of a bridge send no faster than a link; `sh` runs a command where that bridge is."""
    for line in sh("ip -o link show type bridge_slave").splitlines():
        port = line.split()[1].partition("@")[0]
        sh(f"tc qdisc replace dev {port} root tbf rate {link} {LINKS[link]}")
