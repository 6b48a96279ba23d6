# SPDX-License-Identifier: Apache-2.0
"""The overlays of a local registry that are leaving."""

from __future__ import annotations

import sqlite3
from ipaddress import ip_address

from dni_driver.core.overlays import Address
from dni_driver.core.removal import being_removed

TABLE = (
    """
CREATE TABLE leaving (
    overlay  TEXT PRIMARY KEY REFERENCES overlay (name) ON DELETE CASCADE,
    agent_ip TEXT NOT NULL
) STRICT""",
)


def every(tx: sqlite3.Connection) -> dict[str, Address]:
    """Answer who was told to remove which, by name."""
    return {name: ip_address(agent_ip) for name, agent_ip in tx.execute("SELECT overlay, agent_ip FROM leaving")}


def mark(tx: sqlite3.Connection, name: str, agent_ip: Address) -> None:
    """Record that an overlay is leaving; who was told first stays."""
    tx.execute("INSERT INTO leaving VALUES (?, ?) ON CONFLICT (overlay) DO NOTHING", (name, str(agent_ip)))


def clear(tx: sqlite3.Connection, name: str) -> None:
    """Record that it is not."""
    tx.execute("DELETE FROM leaving WHERE overlay = ?", (name,))


def check_given(tx: sqlite3.Connection, name: str) -> None:
    """Raise InUse where an overlay is leaving: nobody gets any of it, and nothing about it changes."""
    remover = every(tx).get(name)
    if remover is not None:
        raise being_removed(name, remover)
