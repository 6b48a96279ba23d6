# SPDX-License-Identifier: Apache-2.0
"""The IPv4 subnets of IPv6-only overlays on this host."""

from __future__ import annotations

from ipaddress import IPv4Network

from dni_driver.core.errors import InUse
from dni_driver.core.local_subnets import LocalSubnet
from dni_driver.core.overlays import Network, share_addresses
from dni_driver.core.records import pool_id
from dni_driver.store import addresses, networks
from dni_driver.store.database import Transaction


def every(tx: Transaction, overlay: str | None = None) -> list[LocalSubnet]:
    """Answer all, or that of one overlay, by overlay."""
    rows = tx.execute(
        "SELECT overlay, subnet FROM local_subnet WHERE ? IS NULL OR overlay = ? ORDER BY overlay", (overlay, overlay)
    )
    return [LocalSubnet(overlay=row["overlay"], subnet=IPv4Network(row["subnet"])) for row in rows]


def put(tx: Transaction, local: LocalSubnet) -> None:
    """Record the local subnet of an overlay, in place of the one it had."""
    tx.execute(
        "INSERT INTO local_subnet VALUES (?, ?) ON CONFLICT (overlay) DO UPDATE SET subnet = excluded.subnet",
        (local.overlay, str(local.subnet)),
    )


def is_used(tx: Transaction, overlay: str) -> bool:
    """Tell whether an overlay has a network here, one that is being made, or addresses out of its local subnet."""
    if networks.is_of(tx, overlay):
        return True
    pool = pool_id(overlay, 4)
    if tx.execute("SELECT 1 FROM pool WHERE id = ? AND uses > 0", (pool,)).fetchone():
        return True
    return addresses.first_taken(tx, pool) is not None


def check_apart(tx: Transaction, subnet: Network) -> None:
    """Raise InUse where a subnet shares addresses with a local one that is used."""
    for local in every(tx):
        if share_addresses(local.subnet, subnet) and is_used(tx, local.overlay):
            raise InUse(
                f"subnet {subnet} overlaps {local.subnet}, which overlay {local.overlay!r} has for IPv4 on this "
                f"host: choose another subnet, or remove the Docker network of that overlay first"
            )


def make_way(tx: Transaction, subnet: Network) -> None:
    """Forget the local subnets that share addresses with another subnet; raise InUse where one of them is used."""
    check_apart(tx, subnet)
    for local in every(tx):
        if share_addresses(local.subnet, subnet):
            tx.execute("DELETE FROM local_subnet WHERE overlay = ?", (local.overlay,))
