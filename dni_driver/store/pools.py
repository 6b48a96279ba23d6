# SPDX-License-Identifier: Apache-2.0
"""Pools that dockerd asked for, counted by use."""

from __future__ import annotations

import sqlite3
from ipaddress import ip_network

from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.overlays import Family, Network, Overlay, family_of, share_addresses
from dni_driver.core.records import PoolRecord, mesos_pool_id, plain_pool_id, pool_id
from dni_driver.store import leaving, local_subnets, overlays
from dni_driver.store.database import Transaction


def use_overlay(tx: Transaction, overlay: str, family: Family, ip_range: Network | None, now: float) -> PoolRecord:
    """Count one more use of an overlay's pool.

    Raises InUse while one with another range is being made, and where the overlay is being removed.
    """
    leaving.check(tx, overlay)
    return _use(tx, PoolRecord(id=pool_id(overlay, family), family=family, overlay=overlay, ip_range=ip_range), now)


def use_plain(tx: Transaction, subnet: Network, ip_range: Network | None, now: float) -> PoolRecord:
    """Count one more use of a plain pool; raise InUse where it would share addresses with another."""
    for other in every(tx):
        if other.subnet is not None and other.subnet != subnet and share_addresses(other.subnet, subnet):
            raise InUse(f"subnet {subnet} overlaps plain pool {other.subnet}: choose another subnet")
    for overlay in overlays.every(tx):
        if any(share_addresses(subnet, theirs) for theirs in overlay.subnets()):
            raise InUse(f"subnet {subnet} overlaps overlay {overlay.name!r}: choose another subnet")
    local_subnets.make_way(tx, subnet)
    wanted = PoolRecord(id=plain_pool_id(subnet), family=family_of(subnet), subnet=subnet, ip_range=ip_range)
    return _use(tx, wanted, now)


def check_apart(tx: Transaction, overlay: Overlay) -> None:
    """Raise InUse where an overlay would share addresses with a plain pool, or a local subnet that is used."""
    for subnet in overlay.subnets():
        local_subnets.check_apart(tx, subnet)
        for pool in every(tx):
            if pool.subnet is not None and share_addresses(pool.subnet, subnet):
                raise InUse(
                    f"subnet {subnet} of overlay {overlay.name!r} overlaps plain pool {pool.subnet} of this host: "
                    f"choose another subnet, or remove the Docker network that has this one"
                )


def use_mesos(tx: Transaction, overlay: str, family: Family, now: float) -> PoolRecord:
    """Answer the pool of an overlay's Mesos half, recorded with its first use; Docker does not count that as one."""
    name = mesos_pool_id(overlay, family)
    tx.execute(
        "INSERT INTO pool (id, family, overlay, uses, since) VALUES (?, ?, ?, 0, ?) ON CONFLICT (id) DO NOTHING",
        (name, family, overlay, now),
    )
    return find(tx, name)


def _use(tx: Transaction, wanted: PoolRecord, now: float) -> PoolRecord:
    known = lookup(tx, wanted.id)
    if known and known.uses and known.ip_range != wanted.ip_range and (known.overlay is None or known.is_wanted(now)):
        raise InUse(
            f"pool {wanted.id} is in use with --ip-range {known.ip_range or 'unset'}, not "
            f"{wanted.ip_range or 'unset'}: remove that network first, or use the same range"
        )
    tx.execute(
        "INSERT INTO pool (id, family, overlay, subnet, ip_range, uses, since) VALUES (?, ?, ?, ?, ?, 1, ?) "
        "ON CONFLICT (id) DO UPDATE SET "
        "uses = uses + 1, ip_range = excluded.ip_range, since = excluded.since",
        (
            wanted.id,
            wanted.family,
            wanted.overlay,
            str(wanted.subnet) if wanted.subnet else None,
            str(wanted.ip_range) if wanted.ip_range else None,
            now,
        ),
    )
    return find(tx, wanted.id)


def drop_use(tx: Transaction, pool: str) -> int:
    """Count one use less, answer how many are left; an unknown pool has none."""
    tx.execute("UPDATE pool SET uses = uses - 1 WHERE id = ? AND uses > 0", (pool,))
    known = lookup(tx, pool)
    return known.uses if known else 0


def on_trial(tx: Transaction, overlay: str) -> bool:
    """Tell whether an overlay was defined for a network that is not created yet."""
    return any(pool.overlay == overlay and pool.trial for pool in every(tx))


def try_out(tx: Transaction, overlay: Overlay, now: float) -> None:
    """Record that an overlay, which has no pools yet, was defined for a network that is being created."""
    for family in (family_of(subnet) for subnet in overlay.subnets()):
        tx.execute(
            "INSERT INTO pool (id, family, overlay, uses, since, trial) VALUES (?, ?, ?, 0, ?, 1)",
            (pool_id(overlay.name, family), family, overlay.name, now),
        )


def tried_out(tx: Transaction, now: float) -> list[str]:
    """Answer the overlays on trial for which no creation of a network can still be under way."""
    return sorted({pool.overlay for pool in every(tx) if pool.trial and pool.overlay and not pool.is_recent(now)})


def settle(tx: Transaction, overlay: str) -> None:
    """Record that an overlay is there to stay."""
    tx.execute("UPDATE pool SET trial = 0 WHERE overlay = ?", (overlay,))


def set_uses(tx: Transaction, pool: str, uses: int) -> None:
    """Put a count right that calls which never came have left wrong."""
    tx.execute("UPDATE pool SET uses = ? WHERE id = ?", (uses, pool))


def clear_uses(tx: Transaction, overlay: str) -> None:
    """Count no use of an overlay's pools any more: its network is gone."""
    tx.execute("UPDATE pool SET uses = 0 WHERE overlay = ?", (overlay,))


def forget_plain(tx: Transaction, pool: str) -> None:
    """Forget a plain pool that nobody uses, with all it handed out."""
    tx.execute("DELETE FROM address WHERE pool = ?", (pool,))
    tx.execute("DELETE FROM pool WHERE id = ? AND overlay IS NULL", (pool,))


def find(tx: Transaction, pool: str) -> PoolRecord:
    """Answer one pool; raise NotFound."""
    known = lookup(tx, pool)
    if known is None:
        raise NotFound(
            f"pool {pool!r} is not recorded by dni: remove its network (docker network rm) and create it again"
        )
    return known


def every(tx: Transaction) -> list[PoolRecord]:
    """Answer all pools, by id."""
    return [_pool(row) for row in tx.execute("SELECT * FROM pool ORDER BY id")]


def lookup(tx: Transaction, pool: str) -> PoolRecord | None:
    """Answer one pool, None where it is not recorded."""
    row = tx.execute("SELECT * FROM pool WHERE id = ?", (pool,)).fetchone()
    return _pool(row) if row else None


def _pool(row: sqlite3.Row) -> PoolRecord:
    return PoolRecord(
        id=row["id"],
        family=row["family"],
        overlay=row["overlay"],
        subnet=ip_network(row["subnet"]) if row["subnet"] else None,
        ip_range=ip_network(row["ip_range"]) if row["ip_range"] else None,
        uses=row["uses"],
        since=row["since"],
        trial=bool(row["trial"]),
    )
