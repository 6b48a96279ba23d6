# SPDX-License-Identifier: Apache-2.0
"""When an agent needs one more agent subnet of an overlay, and when it can do without one that it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from dni_driver.core.addresses.allocation import Usage, container_span, usage
from dni_driver.core.overlays import FAMILIES, Address, AgentSubnet, Family, Network, share_addresses
from dni_driver.core.records import (
    AddressState,
    NetworkRecord,
    PoolRecord,
    Records,
    ReservationRecord,
    mesos_pool_id,
    pool_id,
)

_FREE_SHARE = 5
"""Room is scarce where no more than one address of so many is free: from 80 % on."""


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """An agent subnet that is being given back, and the agent IP under which the registry has it."""

    held: AgentSubnet
    agent_ip: Address


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """An agent subnet that nothing needs. `touched` is when it was last in use, in seconds since 1970; 0.0: never."""

    held: AgentSubnet
    touched: float


def is_scarce(size: int, free: int) -> bool:
    """Tell whether so many free addresses, of all that containers can have, call for another agent subnet."""
    return free * _FREE_SHARE <= size


def grows(pool: PoolRecord | None, network: NetworkRecord | None) -> bool:
    """Tell whether more room is of use: a network with `--ip-range` takes addresses from that alone."""
    return pool is None or pool.ip_range is None or network is None


def idle(records: Records, now: float) -> Iterator[Idle]:
    """Find the agent subnets that nothing needs; never the first of an overlay, nor where room would be scarce then.

    Each is judged as if it went alone. `now` is in seconds since 1970.
    """
    for overlay in records.overlays:
        for family in FAMILIES:
            mine = [one for one in records.agent_subnets if (one.overlay, one.family) == (overlay.name, family)]
            for one in mine[1:]:
                if not _is_needed(one, mine, records, now):
                    yield Idle(held=one, touched=_touched(one, records))


def _is_needed(one: AgentSubnet, mine: Iterable[AgentSubnet], records: Records, now: float) -> bool:
    half, pool = one.docker_half, pool_id(one.overlay, one.family)
    mesos = mesos_pool_id(one.overlay, one.family)
    return (
        any(known.id == pool and known.is_wanted(now) for known in records.pools)
        or any(network.overlay == one.overlay and _is_told_of(network, half) for network in records.networks)
        or any(_lies_in(end, one.subnet) for record in records.reservations for end in (record.first, record.last))
        or any(
            record.pool in (pool, mesos) and record.state is not AddressState.FREE and record.address in one.subnet
            for record in records.addresses
        )
        or _is_scarce_without(one, mine, records)
    )


def _is_told_of(network: NetworkRecord, half: Network) -> bool:
    """Tell whether Docker has a half as the pool of a network."""
    return any(share_addresses(gateway.network, half) for gateway in network.gateways())


def _lies_in(address: object, half: Network) -> bool:
    return getattr(address, "version", None) == half.version and address in half


def _is_scarce_without(one: AgentSubnet, mine: Iterable[AgentSubnet], records: Records) -> bool:
    left = [other for other in mine if other != one]
    docker, mesos = pool_id(one.overlay, one.family), mesos_pool_id(one.overlay, one.family)
    kept = [reservation for reservation in records.reservations if reservation.overlay == one.overlay]
    rests = [_usage(docker, [other.docker_half for other in left], records, kept)]
    if any(pool.id == mesos for pool in records.pools):
        rests.append(_usage(mesos, [other.mesos_half for other in left], records, kept))
    return any(is_scarce(rest.size, rest.free) for rest in rests)


def _usage(pool: str, halves: Iterable[Network], records: Records, kept: Sequence[ReservationRecord]) -> Usage:
    taken = [record for record in records.addresses if record.pool == pool]
    return usage([container_span(half) for half in halves], taken, kept)


def _touched(one: AgentSubnet, records: Records) -> float:
    pools = (pool_id(one.overlay, one.family), mesos_pool_id(one.overlay, one.family))
    return max(
        (record.since for record in records.addresses if record.pool in pools and record.address in one.subnet),
        default=0.0,
    )


def described(family: Family, overlay: str) -> str:
    """Name what is short: `IPv4 of overlay 'dcos'`."""
    return f"IPv{family} of overlay {overlay!r}"
