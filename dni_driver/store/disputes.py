# SPDX-License-Identifier: Apache-2.0
"""Overlays of which the registry does not agree to what this host holds: no address of theirs is handed out."""

from __future__ import annotations

from collections.abc import Mapping

from dni_driver.core.errors import Unavailable
from dni_driver.store import meta
from dni_driver.store.database import Transaction

_KEY = "dispute/"


def every(tx: Transaction) -> dict[str, str]:
    """Answer by overlay what the registry has said, and what helps."""
    rows = tx.execute("SELECT key, value FROM meta WHERE key GLOB ?", (_KEY + "*",))
    return {row["key"].removeprefix(_KEY): row["value"] for row in rows}


def settle(tx: Transaction, reasons: Mapping[str, str]) -> None:
    """Record these disputes, and that there is no other."""
    for overlay in every(tx).keys() - reasons.keys():
        drop(tx, overlay)
    for overlay, reason in reasons.items():
        meta.put(tx, _KEY + overlay, reason)


def drop(tx: Transaction, overlay: str) -> None:
    """Record that an overlay is disputed no more."""
    meta.drop(tx, _KEY + overlay)


def check(tx: Transaction, overlay: str) -> None:
    """Raise Unavailable where an address of an overlay may be another agent's."""
    reason = meta.find(tx, _KEY + overlay)
    if reason is not None:
        raise Unavailable(f"this host hands out no new addresses of overlay {overlay!r}: {reason}")
