# SPDX-License-Identifier: Apache-2.0
"""Which address a container gets: the one asked for, the one reserved for it by its name, or the next."""

from __future__ import annotations

from collections.abc import Iterable

from dni_driver.core.allocation import check_explicit, exhausted, spans, without
from dni_driver.core.errors import InUse
from dni_driver.core.overlays import Address, Network
from dni_driver.core.records import AddressState, PoolRecord, ReservationRecord, docker_halves, mesos_halves
from dni_driver.core.reservations import check_not_anothers, reserved_for
from dni_driver.store import Transaction, addresses, overlays, pools, reservations, room


def claim(
    tx: Transaction,
    pool: PoolRecord,
    asked: Address | None,
    container: str | None,
    now: float,
    elsewhere: Iterable[ReservationRecord] = (),
) -> Address:
    """Record an address as claimed, and answer it; `container` is the name of who gets it, where that is known.

    What is kept `elsewhere` is given to nobody who does not ask for it, as what is reserved here.

    Raises Refused where no container can have the address asked for, InUse naming who has it or whom it is
    reserved for, Exhausted where nothing is left.
    """
    kept = sorted([*reservations.of_overlay(tx, pool.overlay), *elsewhere], key=lambda one: int(one.first))
    if asked is not None:
        check_explicit(asked, pool, halves_of(tx, pool))
        check_not_anothers(asked, container, kept)
        addresses.hold(tx, pool.id, asked, AddressState.CLAIMED, now)
        return asked
    own = reserved_for(container, pool.family, kept)
    if own is not None:
        _hold_own(tx, pool, own, now)
        return own
    return _claim_next(tx, pool, kept, now)


def halves_of(tx: Transaction, pool: PoolRecord) -> list[Network]:
    """Answer the halves of its overlay on this agent that a pool hands out; of a plain pool its subnet."""
    if pool.overlay is None:
        return [pool.subnet] if pool.subnet is not None else []
    if pool.is_mesos:
        return mesos_halves(overlays.agent_subnets(tx, pool.overlay), pool.overlay, pool.family)
    return docker_halves(overlays.held(tx, pool.overlay), pool.overlay, pool.family)


def _hold_own(tx: Transaction, pool: PoolRecord, own: Address, now: float) -> None:
    """Hold what is reserved for a container: it gets no other instead, or nobody could rely on it."""
    check_explicit(own, pool, halves_of(tx, pool))
    holder = addresses.find(tx, pool.id, own)
    if holder is not None and holder.state is not AddressState.FREE:
        raise InUse(
            f"address {own} is reserved for this container and in use by {addresses.describe(holder)}: stop that "
            f"first; if nothing has it, `dni repair` frees it"
        )
    addresses.hold(tx, pool.id, own, AddressState.CLAIMED, now)


def _claim_next(tx: Transaction, pool: PoolRecord, kept: list[ReservationRecord], now: float) -> Address:
    halves = halves_of(tx, pool)
    offered = spans(pool, halves)
    address = addresses.claim_next(tx, pool.id, without(offered, kept), now)
    if address is None:
        usage = addresses.usage(tx, pool.id, offered, kept)
        raise exhausted(pool, str(overlays.agent_ip(tx)), usage, len(halves), _no_more(tx, pool))
    return address


def _no_more(tx: Transaction, pool: PoolRecord) -> str | None:
    """Answer why a pool cannot get more room; None where it may be about to."""
    if pool.overlay is None or overlays.find(tx, pool.overlay).space(pool.family) is None:
        return "a subnet of this host alone does not grow"
    return room.reason(tx, pool.overlay, pool.family)


def has_room(tx: Transaction, pool_id: str) -> bool:
    """Tell whether asking a full pool again is of use: an address is free, or it is known that none will be."""
    pool = pools.find(tx, pool_id)
    kept = reservations.of_overlay(tx, pool.overlay)
    offered = without(spans(pool, halves_of(tx, pool)), kept)
    return _no_more(tx, pool) is not None or addresses.count_free(tx, pool.id, offered) > 0
