# SPDX-License-Identifier: Apache-2.0
"""The `dni` command: starts the programs, and asks the running agent what people want to know."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; it does not return."""
    from dni_driver.cli import entry  # noqa: PLC0415 - what `dni up` becomes is in this room too, and stays small

    entry.main(argv)
