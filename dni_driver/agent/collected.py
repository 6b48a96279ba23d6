# SPDX-License-Identifier: Apache-2.0
"""Problems that are collected, so that one part that does not work keeps no other from working."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dni_driver.core.errors import Exhausted, Refused


class Collected:
    """Problems of parts that do not keep the others from going on; a registry that cannot be had is none."""

    def __init__(self) -> None:
        """Have none."""
        self.texts: list[str] = []

    @contextmanager
    def of(self, subject: str) -> Iterator[list[str]]:
        """Collect what goes wrong inside; the list that is given has it behind that."""
        said: list[str] = []
        try:
            yield said
        except (Refused, Exhausted) as error:
            said.append(str(error))
            self.texts.append(f"{subject}: {error}")
