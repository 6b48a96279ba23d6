# SPDX-License-Identifier: Apache-2.0
"""What is wrong at the moment, for `dni status` and, once each, for the log."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog

log = structlog.get_logger(__name__)


class Problems:
    """The problems of each part of the agent, in words. A problem that lasts is logged when it begins."""

    def __init__(self) -> None:
        """Have none."""
        self._lock = threading.Lock()
        self._of: dict[str, tuple[str, ...]] = {}

    def report(self, part: str, problems: Sequence[str]) -> None:
        """Say what is wrong with a part now; nothing is, where there are no problems."""
        with self._lock:
            before = self._of.get(part, ())
            self._of[part] = tuple(problems)
        for problem in problems:
            if problem not in before:
                log.warning("problem", part=part, problem=problem)
        if before and not problems:
            log.info("all is well again", part=part)

    def of(self, part: str) -> tuple[str, ...]:
        """Answer what is wrong with a part."""
        with self._lock:
            return self._of.get(part, ())

    def every(self) -> list[str]:
        """Answer all problems, each once."""
        with self._lock:
            return list(dict.fromkeys(problem for problems in self._of.values() for problem in problems))
