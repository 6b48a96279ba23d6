# SPDX-License-Identifier: Apache-2.0
"""Single facts, each under a name."""

from __future__ import annotations

from dni_driver.store.database import Transaction


def put(tx: Transaction, key: str, value: str) -> None:
    """Record a fact, in place of what it was."""
    tx.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )


def find(tx: Transaction, key: str) -> str | None:
    """Answer a fact, None where nobody recorded it."""
    row = tx.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return str(row["value"]) if row else None


def find_some(tx: Transaction, *keys: str) -> dict[str, str]:
    """Answer those of some facts that somebody recorded, at once."""
    places = ", ".join("?" * len(keys))
    rows = tx.execute(f"SELECT key, value FROM meta WHERE key IN ({places})", keys)  # noqa: S608 - question marks only
    return {row["key"]: row["value"] for row in rows}


def drop(tx: Transaction, key: str) -> None:
    """Record that it is no fact any more."""
    tx.execute("DELETE FROM meta WHERE key = ?", (key,))
