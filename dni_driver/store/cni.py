# SPDX-License-Identifier: Apache-2.0
"""The Mesos half: the overlays that containers of CNI may be on, their endpoints, and the files written for them."""

from __future__ import annotations

import sqlite3
from ipaddress import IPv4Interface, IPv6Interface

from dni_driver.core.cni_records import CniEndpointRecord, CniNetworkRecord
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.overlays import Address
from dni_driver.store import addresses
from dni_driver.store.database import Transaction
from dni_driver.store.endpoint_options import read_options, write_options


def put_network(tx: Transaction, network: CniNetworkRecord) -> None:
    """Record that containers may be on an overlay's Mesos half, or another MTU of it."""
    tx.execute(
        "INSERT INTO cni_network VALUES (?, ?, ?) ON CONFLICT (overlay) DO UPDATE SET mtu = excluded.mtu",
        (network.overlay, network.mtu, network.since),
    )


def find_network(tx: Transaction, overlay: str) -> CniNetworkRecord | None:
    """Answer what is recorded of an overlay's Mesos half."""
    return next((one for one in networks(tx) if one.overlay == overlay), None)


def networks(tx: Transaction) -> list[CniNetworkRecord]:
    """Answer all of them, by overlay."""
    rows = tx.execute("SELECT * FROM cni_network ORDER BY overlay")
    return [CniNetworkRecord(overlay=row["overlay"], mtu=row["mtu"], since=row["since"]) for row in rows]


def remove_network(tx: Transaction, overlay: str) -> None:
    """Forget a Mesos half that no endpoint is on."""
    tx.execute(
        "DELETE FROM cni_network WHERE overlay = ? AND overlay NOT IN (SELECT overlay FROM cni_endpoint)", (overlay,)
    )


def put_endpoint(tx: Transaction, endpoint: CniEndpointRecord) -> None:
    """Record an endpoint; one that is known has another sandbox now."""
    tx.execute(
        "INSERT INTO cni_endpoint VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET sandbox = excluded.sandbox, since = excluded.since",
        (
            endpoint.id,
            endpoint.overlay,
            endpoint.container,
            endpoint.ifname,
            endpoint.sandbox,
            endpoint.mac,
            str(endpoint.address) if endpoint.address else None,
            str(endpoint.address6) if endpoint.address6 else None,
            endpoint.since,
            write_options(endpoint.options),
        ),
    )


def find_endpoint(tx: Transaction, endpoint: str) -> CniEndpointRecord | None:
    """Answer one endpoint."""
    row = tx.execute("SELECT * FROM cni_endpoint WHERE id = ?", (endpoint,)).fetchone()
    return _endpoint(row) if row else None


def endpoints(tx: Transaction) -> list[CniEndpointRecord]:
    """Answer all endpoints, by id."""
    return [_endpoint(row) for row in tx.execute("SELECT * FROM cni_endpoint ORDER BY id")]


def holder(tx: Transaction, address: Address) -> CniEndpointRecord | None:
    """Answer the endpoint that has an address."""
    return next((one for one in endpoints(tx) if any(has.ip == address for has in one.interfaces())), None)


def set_options(tx: Transaction, endpoint: str, options: EndpointOptions) -> None:
    """Record other options of an endpoint."""
    tx.execute("UPDATE cni_endpoint SET options = ? WHERE id = ?", (write_options(options), endpoint))


def forget_endpoint(tx: Transaction, endpoint: str, now: float) -> None:
    """Forget an endpoint, and free its addresses; an unknown one has none."""
    for record in addresses.of_cni_endpoint(tx, endpoint):
        addresses.free(tx, record.pool, record.address, now)
    tx.execute("DELETE FROM cni_endpoint WHERE id = ?", (endpoint,))


def written(tx: Transaction) -> dict[str, set[str]]:
    """Answer the digests of what was written, by path."""
    found: dict[str, set[str]] = {}
    for row in tx.execute("SELECT path, digest FROM cni_file"):
        found.setdefault(row["path"], set()).add(row["digest"])
    return found


def note_written(tx: Transaction, path: str, digest: str) -> None:
    """Record what is about to be written at a path."""
    tx.execute("INSERT INTO cni_file VALUES (?, ?) ON CONFLICT DO NOTHING", (path, digest))


def settle_written(tx: Transaction, path: str, digest: str | None) -> None:
    """Record that a path has this now, and no longer what was there before; None: nothing of ours."""
    tx.execute("DELETE FROM cni_file WHERE path = ? AND digest IS NOT ?", (path, digest))


def _endpoint(row: sqlite3.Row) -> CniEndpointRecord:
    return CniEndpointRecord(
        id=row["id"],
        overlay=row["overlay"],
        container=row["container"],
        ifname=row["ifname"],
        sandbox=row["sandbox"],
        mac=row["mac"],
        address=IPv4Interface(row["address"]) if row["address"] else None,
        address6=IPv6Interface(row["address6"]) if row["address6"] else None,
        since=row["since"],
        options=read_options(row["options"]),
    )
