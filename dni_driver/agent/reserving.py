# SPDX-License-Identifier: Apache-2.0
"""Keeps addresses back as people ask for it, and gives them up again: on this host alone, in its halves."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from dni_driver.core.addresses.allocation import Span, exhausted, spans, without
from dni_driver.core.addresses.reservations import Wish, check_usable, family_meant, released, standing
from dni_driver.core.errors import InUse, Unavailable
from dni_driver.core.overlays import Address, Family, Network
from dni_driver.core.records import PoolRecord, ReservationRecord, mesos_halves, mesos_pool_id, pool_id
from dni_driver.store import Store, Transaction, addresses, leaving, overlays, pools, reservations, room
from dni_driver.store.claiming import halves_of

log = structlog.get_logger(__name__)


class Reserving:
    """Makes and ends reservations. Safe to call from several threads."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """Take the store; `clock` dates reservations."""
        self._store = store
        self._clock = clock

    def reserve(self, wish: Wish) -> ReservationRecord:
        """Keep back what is wished for; the same wish once more changes nothing.

        Raises NotFound for an unknown overlay, Refused where no container can have the addresses, InUse naming who
        has them or whom they are reserved for, or where the overlay is being removed, Exhausted where no address is
        free.
        """
        with self._store.write() as tx:
            family = family_meant(wish, overlays.find(tx, wish.overlay))
            kept = reservations.of_overlay(tx, wish.overlay)
            known = standing(wish, family, kept)
            if known is not None:
                return known
            leaving.check(tx, wish.overlay)
            span = _span(tx, wish, family, kept)
            made = ReservationRecord(
                overlay=wish.overlay, first=span.first, last=span.last, container=wish.container, since=self._clock()
            )
            reservations.add(tx, made)
        log.info("reserved", overlay=made.overlay, addresses=str(made), container=made.container)
        return made

    def release(self, wish: Wish) -> list[ReservationRecord]:
        """Give up what is wished, and answer it; whoever has the addresses keeps them until it stops.

        Raises NotFound for an unknown overlay, and for what is not reserved.
        """
        with self._store.write() as tx:
            overlays.find(tx, wish.overlay)
            found = released(wish, reservations.of_overlay(tx, wish.overlay))
            for one in found:
                reservations.remove(tx, one)
        log.info("released", overlay=wish.overlay, addresses=[str(one) for one in found])
        return found


def _span(tx: Transaction, wish: Wish, family: Family, kept: list[ReservationRecord]) -> Span:
    """Answer what to keep back: what was named, where that can be; else what the container has, or the next."""
    pool = _pool(tx, wish, family)
    halves = halves_of(tx, pool)
    if not halves:
        raise Unavailable(f"this host has no agent subnet of overlay {wish.overlay!r} yet: `dni status` says why")
    if wish.span is not None:
        check_usable(wish, wish.span, pool, halves)
        _check_free(tx, wish, wish.span, pool)
        return wish.span
    owned = addresses.of_container(tx, pool.id, str(wish.container))
    if owned is None:
        address = _next(tx, pool, halves, kept)
        return Span(address, address)
    span = Span(owned, owned)
    standing(msgspec.structs.replace(wish, span=span), family, kept)
    return span


def _pool(tx: Transaction, wish: Wish, family: Family) -> PoolRecord:
    """Answer an overlay's pool, which is recorded once it was used: the Docker half's unless the other is named."""
    mesos = mesos_halves(overlays.agent_subnets(tx, wish.overlay), wish.overlay, family)
    is_mesos = wish.span is not None and any(wish.span.first in half for half in mesos)
    name = (mesos_pool_id if is_mesos else pool_id)(wish.overlay, family)
    return pools.lookup(tx, name) or PoolRecord(id=name, family=family, overlay=wish.overlay)


def _check_free(tx: Transaction, wish: Wish, span: Span, pool: PoolRecord) -> None:
    for record in addresses.held_within(tx, pool.id, span):
        if wish.container is None or record.container != wish.container:
            raise InUse(
                f"address {record.address} is in use by {addresses.describe(record)}: reserve another, or stop that "
                f"first"
            )


def _next(tx: Transaction, pool: PoolRecord, halves: list[Network], kept: list[ReservationRecord]) -> Address:
    offered = spans(pool, halves)
    address = addresses.next_free(tx, pool.id, without(offered, kept))
    if address is None:
        usage, reason = addresses.usage(tx, pool.id, offered, kept), room.reason(tx, str(pool.overlay), pool.family)
        raise exhausted(pool, str(overlays.agent_ip(tx)), usage, len(halves), reason)
    return address
