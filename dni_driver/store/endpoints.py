# SPDX-License-Identifier: Apache-2.0
"""Endpoints: containers' places on our networks."""

from __future__ import annotations

import sqlite3
from ipaddress import IPv4Interface, IPv6Interface

from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.overlays import Address
from dni_driver.core.records import EndpointRecord
from dni_driver.store.database import Transaction
from dni_driver.store.endpoint_options import read_options, write_options


def add(tx: Transaction, endpoint: EndpointRecord) -> None:
    """Record an endpoint; a repeat changes nothing. Raise InUse where its id stands for another one."""
    tx.execute(
        "INSERT INTO endpoint VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (
            endpoint.id,
            endpoint.network,
            endpoint.mac,
            str(endpoint.address) if endpoint.address else None,
            str(endpoint.address6) if endpoint.address6 else None,
            endpoint.sandbox,
            endpoint.ifname,
            endpoint.since,
            write_options(endpoint.options),
        ),
    )
    if not _same(find(tx, endpoint.id), endpoint):
        raise InUse(
            f"endpoint {endpoint.id[:12]} is recorded with another network or address: start its container again"
        )


def _same(one: EndpointRecord, other: EndpointRecord) -> bool:
    return one.network == other.network and one.interfaces() == other.interfaces()


def find(tx: Transaction, endpoint: str) -> EndpointRecord:
    """Answer one endpoint; raise NotFound."""
    known = lookup(tx, endpoint)
    if known is None:
        raise NotFound(f"endpoint {endpoint[:12]} is not recorded by dni: start its container again")
    return known


def lookup(tx: Transaction, endpoint: str) -> EndpointRecord | None:
    """Answer one endpoint, None where it is not recorded."""
    row = tx.execute("SELECT * FROM endpoint WHERE id = ?", (endpoint,)).fetchone()
    return _endpoint(row) if row else None


def holder(tx: Transaction, address: Address) -> EndpointRecord:
    """Answer the endpoint that has an address; raise NotFound."""
    for endpoint in every(tx):
        if any(interface.ip == address for interface in endpoint.interfaces()):
            return endpoint
    raise NotFound(f"no container on dni has address {address}: `dni address ls` shows who has which")


def every(tx: Transaction) -> list[EndpointRecord]:
    """Answer all endpoints, by id."""
    return [_endpoint(row) for row in tx.execute("SELECT * FROM endpoint ORDER BY id")]


def of_network(tx: Transaction, network: str) -> list[EndpointRecord]:
    """Answer the endpoints of a network, by id."""
    rows = tx.execute("SELECT * FROM endpoint WHERE network = ? ORDER BY id", (network,))
    return [_endpoint(row) for row in rows]


def in_sandbox(tx: Transaction, sandbox: str) -> list[EndpointRecord]:
    """Answer the endpoints that are in a sandbox, by id."""
    rows = tx.execute("SELECT * FROM endpoint WHERE sandbox = ? ORDER BY id", (sandbox,))
    return [_endpoint(row) for row in rows]


def joined(tx: Transaction, endpoint: str, sandbox: str) -> None:
    """Record in which sandbox an endpoint is."""
    tx.execute("UPDATE endpoint SET sandbox = ?, ifname = NULL WHERE id = ?", (sandbox, endpoint))


def left(tx: Transaction, endpoint: str) -> None:
    """Record that an endpoint is in no sandbox; an unknown one is in none either."""
    tx.execute("UPDATE endpoint SET sandbox = NULL, ifname = NULL WHERE id = ?", (endpoint,))


def set_ifname(tx: Transaction, endpoint: str, ifname: str) -> None:
    """Record what the link is called inside the sandbox."""
    tx.execute("UPDATE endpoint SET ifname = ? WHERE id = ?", (ifname, endpoint))


def set_options(tx: Transaction, endpoint: str, options: EndpointOptions) -> None:
    """Record other options of an endpoint."""
    tx.execute("UPDATE endpoint SET options = ? WHERE id = ?", (write_options(options), endpoint))


def remove(tx: Transaction, endpoint: str) -> None:
    """Forget an endpoint; its addresses are unbound already."""
    tx.execute("DELETE FROM endpoint WHERE id = ?", (endpoint,))


def _endpoint(row: sqlite3.Row) -> EndpointRecord:
    return EndpointRecord(
        id=row["id"],
        network=row["network"],
        mac=row["mac"],
        address=IPv4Interface(row["address"]) if row["address"] else None,
        address6=IPv6Interface(row["address6"]) if row["address6"] else None,
        sandbox=row["sandbox"],
        ifname=row["ifname"],
        since=row["since"],
        options=read_options(row["options"]),
    )
