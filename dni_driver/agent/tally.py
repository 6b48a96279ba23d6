# SPDX-License-Identifier: Apache-2.0
"""A count that several threads add to."""

from __future__ import annotations

import threading


class Tally:
    """How often something has happened since the agent began."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._count = 0

    def add(self, number: int) -> None:
        """Count some more."""
        with self._lock:
            self._count += number

    @property
    def count(self) -> int:
        """Answer the count."""
        return self._count
