# SPDX-License-Identifier: Apache-2.0
"""What `dni up` hands over to the program that it becomes."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import NamedTuple

PROGRAM = "dni_driver.cli.holding"
"""The module of that program, by which its command line is known too."""

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Blocked from before the change on: what comes meanwhile waits for the program."""


class Held(NamedTuple):
    """What is handed over: descriptors of the lock and of the socket, its path, and how to log.

    `file` is the settings file that was named, for the programs to read too; empty where none was.
    """

    lock: int
    listener: int
    path: str
    level: str
    form: str
    file: str

    def in_words(self) -> list[str]:
        """Write it as words of a command."""
        return [str(part) for part in self]

    @classmethod
    def read(cls, words: Sequence[str]) -> Held:
        """Read what `in_words` wrote."""
        lock, listener, *texts = words
        return cls(int(lock), int(listener), *texts)
