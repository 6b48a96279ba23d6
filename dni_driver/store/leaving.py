# SPDX-License-Identifier: Apache-2.0
"""Overlays that are being removed in the whole cluster: nothing is begun with them on this host (decision 0045)."""

from __future__ import annotations

from ipaddress import ip_address

from dni_driver.core.overlays import Address
from dni_driver.core.removal import being_removed
from dni_driver.store.database import Transaction


def mark(tx: Transaction, overlay: str, remover: Address) -> None:
    """Have nothing be begun with an overlay from now on; an unknown one is none."""
    tx.execute(
        "INSERT INTO leaving SELECT name, ?, EXISTS (SELECT 1 FROM network JOIN networked USING (overlay) "
        "WHERE overlay = name AND made) FROM overlay WHERE name = ? "
        "ON CONFLICT (overlay) DO UPDATE SET remover = excluded.remover, network = max(network, excluded.network)",
        (str(remover), overlay),
    )


def clear(tx: Transaction, overlay: str) -> None:
    """Have an overlay be one like all others; the network that the agent had made of it may be made anew."""
    tx.execute(
        "DELETE FROM networked WHERE overlay IN (SELECT overlay FROM leaving WHERE overlay = ? AND network) "
        "AND overlay NOT IN (SELECT overlay FROM network)",
        (overlay,),
    )
    tx.execute("DELETE FROM leaving WHERE overlay = ?", (overlay,))


def every(tx: Transaction) -> dict[str, Address]:
    """Answer who was told to remove which."""
    rows = tx.execute("SELECT overlay, remover FROM leaving ORDER BY overlay")
    return {row["overlay"]: ip_address(row["remover"]) for row in rows}


def check(tx: Transaction, overlay: str) -> None:
    """Raise InUse where an overlay is being removed."""
    row = tx.execute("SELECT remover FROM leaving WHERE overlay = ?", (overlay,)).fetchone()
    if row is not None:
        raise being_removed(overlay, ip_address(row["remover"]))
