# SPDX-License-Identifier: Apache-2.0
"""Which address a container gets: the one asked for, the one reserved for it by its name, or the next."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

import msgspec

from dni_driver.core.addresses.allocation import check_explicit, exhausted, spans, whole_spans, without
from dni_driver.core.addresses.reservations import check_not_anothers, reserved_for
from dni_driver.core.errors import InUse, Refused
from dni_driver.core.overlays import Address, Network
from dni_driver.core.records import AddressState, PoolRecord, ReservationRecord, docker_halves, mesos_halves
from dni_driver.store import (
    Transaction,
    addresses,
    fence,
    leaving,
    local_subnets,
    overlays,
    pools,
    reservations,
    room,
)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for: this very `address`, or any; `container` is the name of who gets it, where that is known.

    What is `kept` elsewhere is given to nobody who does not ask for it, as what is reserved here.
    """

    address: IPv4Address | IPv6Address | None = None
    container: str | None = None
    kept: tuple[ReservationRecord, ...] = ()


ANY = Asked()


def claim(tx: Transaction, pool: PoolRecord, halves: Sequence[Network], asked: Asked, now: float) -> Address:
    """Record an address as claimed, and answer it; `halves` are those of `halves_of`.

    Raises Refused where no container can have the address asked for, InUse naming who has it or whom it is
    reserved for, Exhausted where nothing is left, Unavailable where the cluster may have given this host up. So is
    InUse where the overlay is being removed.
    """
    if pool.overlay is not None:
        leaving.check(tx, pool.overlay)
        fence.check(tx, pool.overlay, now)
    kept = sorted([*reservations.of_overlay(tx, pool.overlay), *asked.kept], key=lambda one: int(one.first))
    if asked.address is not None:
        check_explicit(asked.address, pool, halves)
        check_not_anothers(asked.address, asked.container, kept)
        addresses.hold(tx, pool.id, asked.address, AddressState.CLAIMED, now)
        return asked.address
    own = reserved_for(asked.container, pool.family, kept)
    if own is not None:
        _hold_own(tx, pool, halves, own, now)
        return own
    return _claim_next(tx, pool, halves, kept, now)


def halves_of(tx: Transaction, pool: PoolRecord) -> list[Network]:
    """Answer the halves of its overlay on this agent that a pool hands out; of a plain pool its subnet."""
    if pool.overlay is None:
        return [pool.subnet] if pool.subnet is not None else []
    if pool.is_mesos:
        return mesos_halves(overlays.agent_subnets(tx, pool.overlay), pool.overlay, pool.family)
    halves = docker_halves(overlays.agent_subnets(tx, pool.overlay), pool.overlay, pool.family)
    # Only an overlay that has no addresses of a family has local ones.
    return halves or docker_halves(local_subnets.every(tx, pool.overlay), pool.overlay, pool.family)


def _hold_own(tx: Transaction, pool: PoolRecord, halves: Sequence[Network], own: Address, now: float) -> None:
    """Hold what is reserved for a container: it gets no other instead, or nobody could rely on it."""
    if not any(own in span for span in whole_spans(pool, halves)):
        raise Refused(
            f"address {own} is reserved for this container, and none of this agent's any more: `dni address release "
            f"{pool.overlay} {own}` gives it up, and the next start gets another"
        )
    holder = addresses.find(tx, pool.id, own)
    if holder is not None and holder.state is not AddressState.FREE:
        raise InUse(
            f"address {own} is reserved for this container and in use by {addresses.describe(holder)}: stop that "
            f"first; if nothing has it, `dni repair` frees it"
        )
    addresses.hold(tx, pool.id, own, AddressState.CLAIMED, now)


def _claim_next(
    tx: Transaction, pool: PoolRecord, halves: Sequence[Network], kept: Sequence[ReservationRecord], now: float
) -> Address:
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
