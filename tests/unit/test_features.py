# SPDX-License-Identifier: Apache-2.0
"""The table of features names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_NAME = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROWS = [line for line in (ROOT / "docs/features.md").read_text().splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip().replace(" ", "-"))
def test_what_we_claim_is_shown_by_a_test_that_exists(row: str) -> None:
    _, feature, _, ours, shown, _ = (cell.strip() for cell in row.split("|"))
    named = _NAME.findall(shown)
    assert named or ours.startswith("-"), f"nothing shows {feature!r}"
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file} has no {test}"
