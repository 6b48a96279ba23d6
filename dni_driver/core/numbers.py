# SPDX-License-Identifier: Apache-2.0
"""Numbers that are handed out, lowest first."""

from __future__ import annotations

from collections.abc import Iterable


def lowest_missing(taken: Iterable[int], span: range) -> int | None:
    """Answer the lowest number of a range that is not taken; None where all are."""
    held = set(taken)
    return next((number for number in span if number not in held), None)
