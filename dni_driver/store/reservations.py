# SPDX-License-Identifier: Apache-2.0
"""What people keep back of an overlay. It has nothing to do with networks and pools, and outlives them."""

from __future__ import annotations

import sqlite3
from ipaddress import ip_address

from dni_driver.core.records import ReservationRecord
from dni_driver.store.database import Transaction

_IN_ORDER = "ORDER BY overlay, length(first), first"


def add(tx: Transaction, reservation: ReservationRecord) -> None:
    """Record a reservation; that it overlaps no other is the caller's care."""
    tx.execute(
        "INSERT INTO reservation VALUES (?, ?, ?, ?, ?)",
        (
            reservation.overlay,
            reservation.first.packed,
            reservation.last.packed,
            reservation.container,
            reservation.since,
        ),
    )


def remove(tx: Transaction, reservation: ReservationRecord) -> None:
    """Forget a reservation; whoever has its addresses keeps them."""
    tx.execute(
        "DELETE FROM reservation WHERE overlay = ? AND first = ?", (reservation.overlay, reservation.first.packed)
    )


def of_overlay(tx: Transaction, overlay: str | None) -> list[ReservationRecord]:
    """Answer the reservations of an overlay, in the order of addresses; None has none."""
    rows = tx.execute(f"SELECT * FROM reservation WHERE overlay = ? {_IN_ORDER}", (overlay,))  # noqa: S608 - above
    return [_reservation(row) for row in rows]


def every(tx: Transaction) -> list[ReservationRecord]:
    """Answer all reservations, by overlay and in the order of addresses."""
    return [_reservation(row) for row in tx.execute(f"SELECT * FROM reservation {_IN_ORDER}")]  # noqa: S608 - above


def _reservation(row: sqlite3.Row) -> ReservationRecord:
    return ReservationRecord(
        overlay=row["overlay"],
        first=ip_address(row["first"]),
        last=ip_address(row["last"]),
        container=row["container"],
        since=row["since"],
    )
