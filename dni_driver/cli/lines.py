# SPDX-License-Identifier: Apache-2.0
"""The log lines of the program that loads no library; they look as those of the others do (`logs.py`)."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

_LEVELS = ("debug", "info", "warning", "error")
_EVENT_WIDTH = 30
_AMBIGUOUS = frozenset(" \t\r\n=\"'")


class Lines:
    """Writes to standard error, each line with the name of the program."""

    def __init__(self, program: str, level: str = "info", form: str = "console") -> None:
        """Leave out what is below a level; write for people, or in a `form` of `json` for machines."""
        self._program = program
        self._told = _LEVELS[_LEVELS.index(level) :]
        self._write = _in_json if form == "json" else _for_people

    def info(self, event: str, **told: object) -> None:
        """Say what happened."""
        self._tell("info", event, told)

    def warning(self, event: str, **told: object) -> None:
        """Say what somebody should know."""
        self._tell("warning", event, told)

    def error(self, event: str, **told: object) -> None:
        """Say what somebody has to mend."""
        self._tell("error", event, told)

    def _tell(self, level: str, event: str, told: dict[str, object]) -> None:
        if level in self._told:
            now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            line = self._write(now, level, event, {"by": self._program, **told})
            try:
                print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is where lines go
            except OSError:
                return  # a full disk, or a reader that has gone, must not end what holds the socket


def _in_json(now: str, level: str, event: str, told: dict[str, object]) -> str:
    return json.dumps({**told, "event": event, "level": level, "timestamp": now}, default=str)


def _for_people(now: str, level: str, event: str, told: dict[str, object]) -> str:
    pairs = " ".join(f"{key}={_quoted(value)}" for key, value in sorted(told.items()))
    return f"{now} [{level:<9}] {event:<{_EVENT_WIDTH}} {pairs}"


def _quoted(value: object) -> str:
    """Write a value so that one can tell where it ends."""
    return value if isinstance(value, str) and _AMBIGUOUS.isdisjoint(value) else repr(value)
