# SPDX-License-Identifier: Apache-2.0
"""A number that was drawn stands for one of the things there are at the moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def choose(pick: int, things: Sequence[T]) -> T:
    return things[pick % len(things)]
