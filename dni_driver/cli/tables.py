# SPDX-License-Identifier: Apache-2.0
"""Tables for a terminal: columns as wide as their widest cell, numbers to the right."""

from __future__ import annotations

from collections.abc import Sequence

GAP = "  "


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows under their titles; None becomes a dash."""
    columns = [_column(title, cells) for title, *cells in zip(titles, *rows, strict=True)]
    return "\n".join(GAP.join(line).rstrip() for line in zip(*columns, strict=True))


def _column(title: str, cells: Sequence[object]) -> list[str]:
    texts = [title, *("-" if cell is None else str(cell) for cell in cells)]
    width = max(map(len, texts))
    numbers = any(isinstance(cell, int) for cell in cells)
    return [text.rjust(width) if numbers else text.ljust(width) for text in texts]
