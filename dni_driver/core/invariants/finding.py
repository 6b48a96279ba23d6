# SPDX-License-Identifier: Apache-2.0
"""Something that is not as it must be, and how old it has to be to count."""

from __future__ import annotations

import msgspec

SETTLED = 60.0
"""Seconds after which no action of dockerd can still be at work on a record: two handlers of 20 s, and 15 s in which
it repeats a call that found nobody."""

REPAIR = "dni repair"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it must be: what it is about, what is wrong, and what mends it."""

    about: str
    problem: str
    mend: str


def is_settled(since: float, now: float) -> bool:
    """Tell whether something is old enough; what bears a date to come is not (the clock was set back)."""
    return now - since >= SETTLED
