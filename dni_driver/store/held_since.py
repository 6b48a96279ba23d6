# SPDX-License-Identifier: Apache-2.0
"""Since when this host has had each of its agent subnets."""

from __future__ import annotations

from dni_driver.store import overlays
from dni_driver.store.database import Transaction

_KEY = "held_since/"


def note(tx: Transaction, now: float) -> None:
    """Date the agent subnets that are new; forget the dates of those that are gone."""
    held = {str(one.subnet) for one in overlays.agent_subnets(tx)}
    known = every(tx).keys()
    tx.executemany("INSERT INTO meta VALUES (?, ?)", [(_KEY + subnet, repr(now)) for subnet in held - known])
    tx.executemany("DELETE FROM meta WHERE key = ?", [(_KEY + subnet,) for subnet in known - held])


def is_noted(tx: Transaction) -> bool:
    """Tell whether `note` would change nothing."""
    return {str(one.subnet) for one in overlays.agent_subnets(tx)} == every(tx).keys()


def every(tx: Transaction) -> dict[str, float]:
    """Answer the dates by agent subnet, in seconds since 1970."""
    rows = tx.execute("SELECT key, value FROM meta WHERE key GLOB ?", (_KEY + "*",))
    return {row["key"].removeprefix(_KEY): float(row["value"]) for row in rows}
