# SPDX-License-Identifier: Apache-2.0
"""The table of features is whole, each cell has its mark, and the tests that it names exist."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/features.md").read_text()
_NAME = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows(text: str) -> list[list[str]]:
    """Answer the cells of every row of tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| Feature |")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


COMPARED = {
    "Docker network driver": "+",
    "IPAM driver": "+",
    "Multi-host": "-",
    "Store": "bolt file",
    "Works with store down": "+",
    "IPv6 containers": "+",
    "IPv6 underlay": "n/a",
    "Isolation / policy": "~",
    "DNS": "+",
    "VIP / load balancer": "-",
    "Port publish": "+",
    "Encryption on the wire": "n/a",
    "MTU": "by option, 1500",
    "Masquerade control": "+",
    "Static address": "+",
    "Reservation of ranges": "~",
    "Survives daemon restart": "+",
    "GC of stale addresses": "-",
    "Exhaustion reporting": "~",
    "Metrics": "~",
    "CLI status / diagnostics": "`docker network inspect`",
    "Managed plugin (v2)": "n/a",
    "Web UI": "-",
    "Swarm as plugin": "n/a",
    "Compose": "+",
    "CNI interop": "-",
    "Docs": "+",
    "Unit tests": "+",
    "e2e on real Docker": "+",
    "CI today": "+",
}
"""What network drivers are compared by, and how Docker's bridge does there."""

REFUSED = (
    ("Port publish", "`::1`"),
    ("Sticky addresses", "from Engine 29 on"),
    ("Addresses by `--link-local-ip`", "`spoof=allow`"),
)
"""What a cell says of what is not there."""


def test_every_feature_of_the_comparison_is_in_the_table() -> None:
    """Once, in the order of the comparison, with the bridge's mark as it is there."""
    first = PAGE.split("\n## ")[1]
    told = [(feature, bridge) for feature, bridge, _, _ in rows(first)]
    assert [feature for feature, _ in told] == list(COMPARED)
    for (feature, bridge), mark in zip(told, COMPARED.values(), strict=True):
        assert bridge == mark or bridge.startswith(f"{mark} "), feature


def test_every_feature_has_one_row() -> None:
    names = [row[0] for row in rows(PAGE)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("row", rows(PAGE), ids=lambda row: row[0].replace(" ", "-"))
def test_what_we_claim_is_shown_by_a_test_that_exists(row: list[str]) -> None:
    feature, _, ours, shown = row
    assert ours.partition(" ")[0] in ("+", "~", "-"), f"no mark for {feature!r}"
    named = _NAME.findall(shown)
    assert named or ours.startswith("-"), f"nothing shows {feature!r}"
    assert shown.count("::test_") == len(named)
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file} has no {test}"


@pytest.mark.parametrize(("feature", "words"), REFUSED)
def test_what_is_there_in_part_says_what_is_not(feature: str, words: str) -> None:
    (ours,) = (row[2] for row in rows(PAGE) if row[0] == feature)
    assert words in ours


def test_ci_runs_every_test() -> None:
    run = ROOT / ".ci/run"
    assert os.access(run, os.X_OK)
    assert run.read_text().splitlines()[-1] == "exec make test"
    recipe = (ROOT / "Makefile").read_text().partition("\ntest: ")[2].partition("\n\n")[0].splitlines()[1:]
    assert recipe == ["\t$(BIN)/pytest $(SIDE_BY_SIDE)"]
