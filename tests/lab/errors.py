# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the lab."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


class LabError(Exception):
    """The lab cannot do what was asked; the text says why."""


class CommandError(LabError):
    """A command in the lab ended with a status other than 0, or ran out of time (status None)."""

    def __init__(self, argv: Sequence[str], status: int | None, stdout: str, stderr: str) -> None:
        """Keep what the command said, and make it the text."""
        self.argv = list(argv)
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
        ending = "ran out of time" if status is None else f"exit status {status}"
        output = "\n".join(text.strip() for text in (stderr, stdout) if text.strip())
        super().__init__(f"{shlex.join(argv)}: {ending}\n{output}".rstrip())
