# SPDX-License-Identifier: Apache-2.0
"""What is wrong with an agent, in as many words as other agents are told."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

LINES = 5
"""How many problems are told."""
LENGTH = 300
"""How many characters of each."""


class InShort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first problems of an agent, each on a line, and how many more there are."""

    lines: tuple[str, ...] = ()
    more: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError where there are fewer than none."""
        if self.more < 0:
            raise ValueError(f"{self.more} more are none")


def in_short(problems: Iterable[str], more: int = 0) -> InShort:
    """Answer what is told of problems, of which so many were left out already."""
    lines = [_line(problem) for problem in problems]
    return InShort(lines=tuple(lines[:LINES]), more=more + max(0, len(lines) - LINES))


def _line(problem: str) -> str:
    """Answer a text as one line that may be shown on a terminal, whoever wrote it."""
    shown = " ".join("".join(one if one.isprintable() else " " for one in problem).split())
    return shown if len(shown) <= LENGTH else f"{shown[: LENGTH - 1]}…"
