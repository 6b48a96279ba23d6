# SPDX-License-Identifier: Apache-2.0
"""Addresses: who holds which, and which comes next. A pool never has one address twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

from dni_driver.core.addresses import allocation
from dni_driver.core.addresses.allocation import Span, Usage, first_gap
from dni_driver.core.cni_records import CniEndpointRecord
from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.overlays import Address
from dni_driver.core.records import AddressRecord, AddressState, EndpointRecord, ReservationRecord
from dni_driver.store.database import Transaction

LONGEST_QUEUE = 256
"""Freed addresses that wait to be handed out again. A half of IPv6 has more new ones than are ever used, and each one
used is a row, which every look at the store reads."""
_STRIDE = 8
"""At every so many-th address is noted where the next search begins: a page less in most commits, for a few rows."""


def next_free(tx: Transaction, pool: str, spans: Sequence[Span]) -> Address | None:
    """Answer the address a blank request gets: the lowest never used one, else the one freed longest ago.

    That one also where so many wait that they are to be used up first; None where the spans are full.
    """
    return _next(tx, pool, spans)[1]


def claim_next(tx: Transaction, pool: str, spans: Sequence[Span], now: float) -> Address | None:
    """Record that next address as claimed, and answer it; later searches go on from there or shortly before."""
    span, address = _next(tx, pool, spans)
    if span is not None and address is not None and int(address) % _STRIDE == 0:
        _move_cursor(tx, pool, span, address)
    if address is not None:
        _put(tx, pool, address, AddressState.CLAIMED, now)
    return address


def _next(tx: Transaction, pool: str, spans: Sequence[Span]) -> tuple[Span | None, Address | None]:
    """Answer the next address, with its span where it was never used."""
    freed = _freed_longest_ago(tx, pool, spans) if _is_queue_long(tx, pool) else None
    if freed is not None:
        return None, freed
    return _fresh(tx, pool, spans) or (None, _freed_longest_ago(tx, pool, spans))


def _is_queue_long(tx: Transaction, pool: str) -> bool:
    queue = "SELECT 1 FROM address WHERE pool = ? AND freed IS NOT NULL ORDER BY freed LIMIT 1 OFFSET ?"
    return tx.execute(queue, (pool, LONGEST_QUEUE - 1)).fetchone() is not None


def _fresh(tx: Transaction, pool: str, spans: Sequence[Span]) -> tuple[Span, Address] | None:
    for span in spans:
        fresh = _never_used(tx, pool, span)
        if fresh is not None:
            return span, fresh
    return None


def _never_used(tx: Transaction, pool: str, span: Span) -> Address | None:
    row = tx.execute("SELECT next FROM cursor WHERE pool = ? AND first = ?", (pool, span.first.packed)).fetchone()
    start = ip_address(row["next"]) if row else span.first
    return first_gap(start, span.last, _recorded(tx, pool, start))


def _recorded(tx: Transaction, pool: str, start: Address) -> Iterator[int]:
    rows = tx.execute(
        "SELECT address FROM address WHERE pool = ? AND address >= ? ORDER BY address", (pool, start.packed)
    )
    return (int.from_bytes(row["address"]) for row in rows)


def _move_cursor(tx: Transaction, pool: str, span: Span, to: Address) -> None:
    tx.execute(
        "INSERT INTO cursor VALUES (?, ?, ?) ON CONFLICT (pool, first) DO UPDATE SET next = excluded.next",
        (pool, span.first.packed, to.packed),
    )


def _freed_longest_ago(tx: Transaction, pool: str, spans: Sequence[Span]) -> Address | None:
    rows = tx.execute("SELECT address FROM address WHERE pool = ? AND freed IS NOT NULL ORDER BY freed", (pool,))
    freed = (ip_address(row["address"]) for row in rows)
    return next((address for address in freed if any(address in span for span in spans)), None)


def hold(tx: Transaction, pool: str, address: Address, state: AddressState, now: float) -> None:
    """Record an address as claimed or reserved; raise InUse, naming the holder, where it is held already."""
    holder = find(tx, pool, address)
    if holder is not None and holder.state is not AddressState.FREE:
        raise InUse(f"address {address} is in use by {describe(holder)}: choose another, or stop that first")
    _put(tx, pool, address, state, now)


def _put(tx: Transaction, pool: str, address: Address, state: AddressState, now: float) -> None:
    """Record an address that nobody holds as held."""
    tx.execute(
        "INSERT INTO address (pool, address, state, since) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (pool, address) DO UPDATE SET state = excluded.state, since = excluded.since, "
        "freed = NULL, endpoint = NULL, cni_endpoint = NULL, network = NULL, container = NULL",
        (pool, address.packed, state, now),
    )


def describe(record: AddressRecord) -> str:
    """Say who holds an address, for an error message."""
    if record.container:
        return f"container {record.container}"
    if record.endpoint:
        return f"endpoint {record.endpoint[:12]}"
    return {
        AddressState.RESERVED: "the network itself (gateway or auxiliary address)",
        AddressState.CLAIMED: "a container that is starting or was just stopped",
    }.get(record.state, "somebody else")


def bind(tx: Transaction, pool: str, address: Address, endpoint: EndpointRecord, now: float) -> None:
    """Give a claimed address to an endpoint; a repeat changes nothing.

    Raises NotFound where it was never claimed, InUse where another endpoint has it.
    """
    record = find(tx, pool, address)
    if record is None or record.state is AddressState.FREE:
        raise NotFound(f"address {address} was not requested from dni, or given up since: start the container again")
    if record.endpoint == endpoint.id:
        return
    if record.state is not AddressState.CLAIMED:
        raise InUse(f"address {address} is in use by {describe(record)}: start the container again")
    tx.execute(
        "UPDATE address SET state = 'bound', endpoint = ?, network = ?, since = ? WHERE pool = ? AND address = ?",
        (endpoint.id, endpoint.network, now, pool, address.packed),
    )


def bind_cni(tx: Transaction, pool: str, address: Address, endpoint: CniEndpointRecord) -> None:
    """Give an address that was claimed in this transaction to an endpoint of CNI."""
    tx.execute(
        "UPDATE address SET state = 'bound', cni_endpoint = ?, container = ?, since = ? "
        "WHERE pool = ? AND address = ? AND state = 'claimed'",
        (endpoint.id, endpoint.container, endpoint.since, pool, address.packed),
    )


def reserve(tx: Transaction, pool: str, address: Address, network: str, now: float) -> None:
    """Turn a claim into a reservation of a network: an auxiliary address, known as such at CreateNetwork."""
    tx.execute(
        "UPDATE address SET state = 'reserved', network = ?, since = ? "
        "WHERE pool = ? AND address = ? AND state IN ('claimed', 'reserved')",
        (network, now, pool, address.packed),
    )


def unbind(tx: Transaction, endpoint: str, now: float) -> None:
    """Take the addresses off an endpoint: what dockerd released is free, the rest awaits its release."""
    for record in of_endpoint(tx, endpoint):
        if record.state is AddressState.LEAVING:
            free(tx, record.pool, record.address, now)
        else:
            tx.execute(
                "UPDATE address SET state = 'claimed', endpoint = NULL, since = ? WHERE pool = ? AND address = ?",
                (now, record.pool, record.address.packed),
            )


def release(tx: Transaction, pool: str, address: Address, now: float) -> None:
    """Take back an address as dockerd asks; one that an endpoint still has waits for the collector.

    ReleaseAddress names no owner: freeing a bound address on its word could give it to two containers.
    A reservation of a network stays until that network goes. Unknown and free addresses are left alone.
    """
    record = find(tx, pool, address)
    if record is None:
        return
    if record.state is AddressState.BOUND:
        tx.execute(
            "UPDATE address SET state = 'leaving', since = ? WHERE pool = ? AND address = ?",
            (now, pool, address.packed),
        )
    elif record.state is AddressState.CLAIMED or (record.state is AddressState.RESERVED and record.network is None):
        free(tx, pool, address, now)


def free(tx: Transaction, pool: str, address: Address, now: float) -> None:
    """Put an address at the end of the queue, whoever held it."""
    tx.execute(
        "UPDATE address SET state = 'free', endpoint = NULL, cni_endpoint = NULL, network = NULL, container = NULL, "
        "since = ?, "
        "freed = (SELECT COALESCE(MAX(freed), 0) + 1 FROM address WHERE pool = ? AND freed IS NOT NULL) "
        "WHERE pool = ? AND address = ? AND state != 'free'",
        (now, pool, pool, address.packed),
    )


def free_pool(tx: Transaction, pool: str, now: float) -> None:
    """Free every address of a pool that no endpoint has: its network is gone."""
    for record in of_pool(tx, pool):
        if record.endpoint is None:
            free(tx, pool, record.address, now)


def find(tx: Transaction, pool: str, address: Address) -> AddressRecord | None:
    """Answer what is recorded of an address, None where it was never used."""
    found = _select(tx, "WHERE pool = ? AND address = ?", (pool, address.packed))
    return found[0] if found else None


def of_endpoint(tx: Transaction, endpoint: str) -> list[AddressRecord]:
    """Answer the addresses of an endpoint."""
    return _select(tx, "WHERE endpoint = ?", (endpoint,))


def of_cni_endpoint(tx: Transaction, endpoint: str) -> list[AddressRecord]:
    """Answer the addresses of an endpoint of CNI."""
    return _select(tx, "WHERE cni_endpoint = ?", (endpoint,))


def of_pool(tx: Transaction, pool: str) -> list[AddressRecord]:
    """Answer all addresses ever used of a pool, in order."""
    return _select(tx, "WHERE pool = ? ORDER BY address", (pool,))


def first_taken(tx: Transaction, pool: str) -> AddressRecord | None:
    """Answer the lowest address of a pool that is not free."""
    found = _select(tx, "WHERE pool = ? AND state != 'free' ORDER BY address LIMIT 1", (pool,))
    return found[0] if found else None


def every(tx: Transaction) -> list[AddressRecord]:
    """Answer all addresses ever used, by pool and in order."""
    return _select(tx, "ORDER BY pool, address", ())


def set_container(tx: Transaction, pool: str, address: Address, container: str) -> None:
    """Record which container has an address, once Docker has told."""
    tx.execute(
        "UPDATE address SET container = ? WHERE pool = ? AND address = ? AND state != 'free'",
        (container, pool, address.packed),
    )


def held_within(tx: Transaction, pool: str, span: Span) -> list[AddressRecord]:
    """Answer the addresses of a span that are not free, in order."""
    within = "WHERE pool = ? AND address BETWEEN ? AND ? AND state != 'free' ORDER BY address"
    return _select(tx, within, (pool, span.first.packed, span.last.packed))


def count_free(tx: Transaction, pool: str, spans: Iterable[Span]) -> int:
    """Count the addresses of some spans that nobody has."""
    return sum(span.size - _count_held(tx, pool, span) for span in spans)


def _count_held(tx: Transaction, pool: str, span: Span) -> int:
    (count,) = tx.execute(
        "SELECT COUNT(*) FROM address WHERE pool = ? AND address BETWEEN ? AND ? AND state != 'free'",
        (pool, span.first.packed, span.last.packed),
    ).fetchone()
    return int(count)


def of_container(tx: Transaction, pool: str, container: str) -> Address | None:
    """Answer the address that a container is known to have, if any."""
    found = _select(tx, "WHERE pool = ? AND container = ? AND state = 'bound'", (pool, container))
    return found[0].address if found else None


def usage(tx: Transaction, pool: str, spans: Sequence[Span], kept: Sequence[ReservationRecord] = ()) -> Usage:
    """Count a pool within some spans, with what is kept back of it."""
    return allocation.usage(spans, of_pool(tx, pool), kept)


def _select(tx: Transaction, clause: str, values: tuple[object, ...]) -> list[AddressRecord]:
    rows = tx.execute(f"SELECT * FROM address {clause}", values)  # noqa: S608 - clauses are written above
    return [_record(row) for row in rows]


def _record(row: sqlite3.Row) -> AddressRecord:
    return AddressRecord(
        pool=row["pool"],
        address=ip_address(row["address"]),
        state=AddressState(row["state"]),
        endpoint=row["endpoint"],
        network=row["network"],
        container=row["container"],
        since=row["since"],
        cni_endpoint=row["cni_endpoint"],
    )
