# SPDX-License-Identifier: Apache-2.0
"""The `console` blocks of a Markdown file: commands after `$ `, and what they are said to print."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PROMPT = "$ "
_ANYTHING = "…"


class Step(msgspec.Struct, frozen=True):
    """A command line, and the output that must follow; `…` stands for any text, any space for any other."""

    command: str
    output: str

    def is_met_by(self, output: str) -> bool:
        """Tell whether a command's output is the one described."""
        parts = (re.escape(part) for part in _spaced(self.output).split(_ANYTHING))
        return re.fullmatch(".*?".join(parts), _spaced(output), re.DOTALL) is not None


def steps(markdown: str) -> Iterator[Step]:
    """Answer the steps of all blocks, in their order."""
    for block in _BLOCK.findall(markdown):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.replace("\\\n", "").partition("\n")
            yield Step(command, output)


def _spaced(text: str) -> str:
    """Make every run of spaces one: columns are as wide as what they hold."""
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())
