# SPDX-License-Identifier: Apache-2.0
"""How full the agents of a local registry are and what is wrong, as each tells of itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from dni_driver.core.addresses import counts as codec
from dni_driver.core.addresses.counts import Counts, Told
from dni_driver.core.overlays import Address

TABLE = ("CREATE TABLE counts (agent_ip TEXT PRIMARY KEY, told BLOB NOT NULL) STRICT, WITHOUT ROWID",)


def put(tx: sqlite3.Connection, agent_ip: Address, counts: Counts) -> None:
    """Record what an agent tells; each write waits for the disk, so what is there already is left as it is."""
    known = _find(tx, agent_ip)
    if known is None or not codec.is_told(counts, known):
        tx.execute("INSERT OR REPLACE INTO counts VALUES (?, ?)", (str(agent_ip), codec.write(counts)))


def find(tx: sqlite3.Connection, agents: Iterable[Address]) -> dict[Address, Told]:
    """Answer what some agents told, those that told anything."""
    found = ((agent, _find(tx, agent)) for agent in agents)
    return {agent: codec.read(told) for agent, told in found if told is not None}


def drop(tx: sqlite3.Connection, agent_ip: Address) -> None:
    """Forget what an agent told."""
    tx.execute("DELETE FROM counts WHERE agent_ip = ?", (str(agent_ip),))


def _find(tx: sqlite3.Connection, agent_ip: Address) -> bytes | None:
    row = tx.execute("SELECT told FROM counts WHERE agent_ip = ?", (str(agent_ip),)).fetchone()
    return bytes(row[0]) if row else None
