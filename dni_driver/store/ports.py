# SPDX-License-Identifier: Apache-2.0
"""Published ports: which port of this host leads to which endpoint. They go with their endpoint."""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from ipaddress import ip_address

from dni_driver.core.ports import HostPort, PortRecord, Protocol
from dni_driver.store.database import Transaction

_PROTOCOLS = {protocol.value: protocol for protocol in Protocol}
_address = lru_cache(256)(ip_address)
"""There may be 65535 ports, at very few addresses."""


def add(tx: Transaction, record: PortRecord) -> None:
    """Record a port of the host; that no other container has it is the caller's care."""
    tx.execute(
        "INSERT INTO port (protocol, host_port, host_ip, endpoint, port) VALUES (?, ?, ?, ?, ?)",
        (record.at.protocol, record.at.port, record.at.ip.packed, record.endpoint, record.port),
    )


def remove(tx: Transaction, record: PortRecord) -> None:
    """Forget that an endpoint has a port of the host."""
    at = record.at
    tx.execute(
        "DELETE FROM port WHERE protocol = ? AND host_port = ? AND host_ip = ? AND endpoint = ?",
        (at.protocol, at.port, at.ip.packed, record.endpoint),
    )


def clear(tx: Transaction, endpoint: str) -> list[PortRecord]:
    """Forget all ports of an endpoint, and answer them."""
    known = of_endpoint(tx, endpoint)
    tx.execute("DELETE FROM port WHERE endpoint = ?", (endpoint,))
    return known


def at_port(tx: Transaction, protocol: Protocol, port: int) -> list[PortRecord]:
    """Answer what is recorded of one port, at whatever address of the host."""
    return _select(tx, "WHERE protocol = ? AND host_port = ? ORDER BY host_ip", (protocol, port))


def of_endpoint(tx: Transaction, endpoint: str) -> list[PortRecord]:
    """Answer the ports of an endpoint, in order."""
    return _select(tx, "WHERE endpoint = ? ORDER BY protocol, host_port, host_ip", (endpoint,))


def every(tx: Transaction) -> list[PortRecord]:
    """Answer all published ports, in order."""
    return _select(tx, "ORDER BY protocol, host_port, host_ip, endpoint", ())


def last_given(tx: Transaction, protocol: Protocol) -> int | None:
    """Answer the port that was given last to somebody to whom any was right; None where there was nobody."""
    row = tx.execute("SELECT last FROM port_cursor WHERE protocol = ?", (protocol,)).fetchone()
    return int(row["last"]) if row else None


def note_given(tx: Transaction, protocol: Protocol, port: int) -> None:
    """Record the port that was given last."""
    tx.execute(
        "INSERT INTO port_cursor VALUES (?, ?) ON CONFLICT (protocol) DO UPDATE SET last = excluded.last",
        (protocol, port),
    )


def _select(tx: Transaction, clause: str, values: tuple[object, ...]) -> list[PortRecord]:
    rows = tx.execute(f"SELECT * FROM port {clause}", values)  # noqa: S608 - clauses are written above
    return [_record(row) for row in rows]


def _record(row: sqlite3.Row) -> PortRecord:
    at = HostPort(_PROTOCOLS[row["protocol"]], _address(row["host_ip"]), row["host_port"])
    return PortRecord(at=at, endpoint=row["endpoint"], port=row["port"])
