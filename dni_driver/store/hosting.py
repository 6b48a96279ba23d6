# SPDX-License-Identifier: Apache-2.0
"""What somebody else's network software does on this host."""

from __future__ import annotations

import msgspec

from dni_driver.core.hosting import Hosting
from dni_driver.store.database import Transaction

_KEY = "hosting"


def put(tx: Transaction, hosting: Hosting) -> None:
    """Record it."""
    tx.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (_KEY, msgspec.json.encode(hosting, order="sorted").decode()),
    )


def get(tx: Transaction) -> Hosting:
    """Answer it; nothing where nothing was recorded."""
    row = tx.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
    return msgspec.json.decode(row["value"], type=Hosting) if row else Hosting()
