# SPDX-License-Identifier: Apache-2.0
"""Docker networks on this host: one for each overlay at the most."""

from __future__ import annotations

import sqlite3
from ipaddress import IPv4Interface, IPv6Interface

import msgspec

from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.records import NetworkRecord
from dni_driver.store import leaving
from dni_driver.store.database import Transaction


def add(tx: Transaction, network: NetworkRecord) -> None:
    """Record a network; raise InUse, naming the first, where its overlay has one already, or is being removed."""
    leaving.check(tx, network.overlay)
    other = of_overlay(tx, network.overlay)
    if other is not None and other.id != network.id:
        raise taken(other)
    tx.execute(
        "INSERT INTO network VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (
            network.id,
            network.overlay,
            network.name,
            str(network.gateway) if network.gateway else None,
            str(network.gateway6) if network.gateway6 else None,
            network.mtu,
            msgspec.json.encode(network.options).decode(),
            network.since,
        ),
    )


def taken(other: NetworkRecord) -> InUse:
    """Build the error of a second network on one overlay."""
    return InUse(
        f"overlay {other.overlay!r} already has the Docker network {other.label!r} on this host, and an "
        f"overlay has one: use that, remove it first (docker network rm {other.label}), or name another overlay with "
        f"--ipam-opt overlay=NAME (in a Compose file: `external: true`, or another overlay's subnet); if Docker no "
        f"longer has it, `dni repair` clears it away"
    )


def of_overlay(tx: Transaction, overlay: str) -> NetworkRecord | None:
    """Answer the network of an overlay, if it has one."""
    row = tx.execute("SELECT * FROM network WHERE overlay = ?", (overlay,)).fetchone()
    return _network(row) if row else None


def find(tx: Transaction, network: str) -> NetworkRecord:
    """Answer one network; raise NotFound."""
    row = tx.execute("SELECT * FROM network WHERE id = ?", (network,)).fetchone()
    if row is None:
        raise NotFound(
            f"network {network[:12]} is not recorded by dni: remove it (docker network rm) and create it again"
        )
    return _network(row)


def known(tx: Transaction, network: str) -> bool:
    """Tell whether a network is recorded."""
    return tx.execute("SELECT 1 FROM network WHERE id = ?", (network,)).fetchone() is not None


def is_of(tx: Transaction, overlay: str) -> bool:
    """Tell whether an overlay has a network here."""
    return tx.execute("SELECT 1 FROM network WHERE overlay = ?", (overlay,)).fetchone() is not None


def every(tx: Transaction) -> list[NetworkRecord]:
    """Answer all networks, by overlay."""
    return [_network(row) for row in tx.execute("SELECT * FROM network ORDER BY overlay")]


def remove(tx: Transaction, network: str) -> None:
    """Forget a network; its endpoints and addresses are gone already."""
    tx.execute("DELETE FROM network WHERE id = ?", (network,))


def set_name(tx: Transaction, network: str, name: str) -> None:
    """Record what Docker calls a network."""
    tx.execute("UPDATE network SET name = ? WHERE id = ?", (name, network))


def set_mtu(tx: Transaction, network: str, mtu: int) -> None:
    """Record how large a network's packets are from now on, in bytes."""
    tx.execute("UPDATE network SET mtu = ? WHERE id = ?", (mtu, network))


def _network(row: sqlite3.Row) -> NetworkRecord:
    return NetworkRecord(
        id=row["id"],
        overlay=row["overlay"],
        name=row["name"],
        gateway=IPv4Interface(row["gateway"]) if row["gateway"] else None,
        gateway6=IPv6Interface(row["gateway6"]) if row["gateway6"] else None,
        mtu=row["mtu"],
        options=msgspec.json.decode(row["options"], type=NetworkOptions),
        since=row["since"],
    )
