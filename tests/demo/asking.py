# SPDX-License-Identifier: Apache-2.0
"""Who asked whom, and who answered: drawn as a table, a row for each who asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

ANSWERED, ANOTHER, NOBODY = "#", "?", "-"
_COLOURS = {ANSWERED: "green", ANOTHER: "yellow", NOBODY: "red"}
_MEANINGS = {ANSWERED: "answered", ANOTHER: "another answered", NOBODY: "no answer"}

Answers = Mapping[tuple[str, str], str | None]
"""By who asked and who was asked: the name in the answer, None where none came."""


def draw(names: Sequence[str], answers: Answers) -> list[str]:
    """Draw what each got who asked."""
    width = max(map(len, names))
    head = " ".join(f"{name:^{width}}" for name in names)
    rows = [
        f"{asker:<{width}}  {' '.join(_centred(mark(answers, asker, asked), width) for asked in names)}"
        for asker in names
    ]
    legend = "   ".join(f"{_coloured(one)} {meaning}" for one, meaning in _MEANINGS.items())
    return [f"{'':<{width}}  {head}", *rows, "", legend]


def mark(answers: Answers, asker: str, asked: str) -> str:
    """Answer the mark of one who asked one."""
    heard = answers.get((asker, asked))
    if heard is None:
        return NOBODY
    return ANSWERED if heard == asked else ANOTHER


def count(names: Sequence[str], answers: Answers) -> int:
    """Answer how often who was asked has answered."""
    return sum(mark(answers, asker, asked) == ANSWERED for asker in names for asked in names)


def _centred(one: str, width: int) -> str:
    return f"{one:^{width}}".replace(one, _coloured(one))


def _coloured(one: str) -> str:
    return click.style(one, fg=_COLOURS[one], bold=True)
