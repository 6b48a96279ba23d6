# SPDX-License-Identifier: Apache-2.0
"""Figures with the bars they are held against, and the statistics behind them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

Unit = Literal["ms", "MiB", ""]
"""Empty for a ratio."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `bar`: what `value` should not exceed, None where it is there to compare with."""

    name: str
    value: float
    unit: Unit
    bar: float | None = None

    @property
    def verdict(self) -> str:
        """Say whether the bar is met; empty where there is none."""
        if self.bar is None:
            return ""
        return "met" if self.value <= self.bar else "not met"


def median_ms(seconds: Sequence[float]) -> float:
    """Answer the median of durations, in milliseconds."""
    return statistics.median(seconds) * 1000


def percentile_ms(seconds: Sequence[float], percent: int) -> float:
    """Answer a percentile (1 to 99) of durations, in milliseconds."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1000


def median_difference(more: Sequence[float], less: Sequence[float]) -> float:
    """Answer the median of what each round of `more` took longer than the same round of `less`."""
    return statistics.median(a - b for a, b in zip(more, less, strict=True))


def median_ratio(some: Sequence[float], others: Sequence[float]) -> float:
    """Answer the median of each round of `some` divided by the same round of `others`."""
    return statistics.median(a / b for a, b in zip(some, others, strict=True))


def show(figures: Sequence[Figure]) -> str:
    """Lay the figures out as a table."""
    rows = [("FIGURE", "VALUE", "BAR", "")]
    rows += [(f.name, _number(f.value, f.unit), _bar(f), f.verdict) for f in figures]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {bar:>{widths[2]}}  {verdict}".rstrip()
        for name, value, bar, verdict in rows
    )


def _bar(figure: Figure) -> str:
    return "" if figure.bar is None else f"≤ {figure.bar:g} {figure.unit}".rstrip()


def _number(value: float, unit: Unit) -> str:
    return (f"{value:.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}").rstrip()
