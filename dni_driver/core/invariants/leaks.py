# SPDX-License-Identifier: Apache-2.0
"""What has leaked: records of ours that Docker knows nothing of.

dockerd ignores the errors of Leave, DeleteEndpoint, DeleteNetwork and Release, and never repeats a call it could
not make. So the records are held against Docker's own list, which must have been made after they were read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

import msgspec

from dni_driver.core.overlays import Address, gateway_of
from dni_driver.core.records import HELD, AddressRecord, AddressState, EndpointRecord, PoolRecord, Records
from dni_driver.core.views import DockerView


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """An address as it was held when it was seen; it differs after any change of hands."""

    pool: str
    address: IPv4Address | IPv6Address
    state: AddressState
    container: str | None
    since: float

    def __str__(self) -> str:
        """Name the address, and the container that had it where that is known."""
        return f"{self.address} of container {self.container}" if self.container else str(self.address)


class LostAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address that no endpoint has and that Docker shows nowhere; `overlay` is None in a plain pool."""

    holding: Holding
    overlay: str | None


class LostEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that Docker does not list, and whose addresses it shows nowhere."""

    id: str
    network: str
    sandbox: str | None
    since: float
    holdings: tuple[Holding, ...]


class LostNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """A network that Docker does not list, with the endpoints recorded on it, all of them lost."""

    id: str
    label: str
    overlay: str
    since: float
    endpoints: tuple[LostEndpoint, ...]


class LostPool(msgspec.Struct, frozen=True, kw_only=True):
    """A plain pool that no Docker network uses, with what was handed out of it."""

    id: str
    since: float
    holdings: tuple[Holding, ...]


class WrongUses(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that counts other uses than it has Docker networks."""

    id: str
    since: float
    uses: int
    right: int


Leak = LostAddress | LostEndpoint | LostNetwork | LostPool | WrongUses
"""Two leaks are equal where nothing about them has changed in between."""


def leaks(records: Records, docker: DockerView) -> set[Leak]:
    """Answer all that is recorded and that Docker, asked afterwards, knows nothing of."""
    endpoints = list(_lost_endpoints(records, docker))
    return {
        *_lost_addresses(records, docker),
        *endpoints,
        *_lost_networks(records, docker, endpoints),
        *_lost_pools(records, docker),
        *_wrong_uses(records, docker),
    }


def _lost_addresses(records: Records, docker: DockerView) -> Iterator[LostAddress]:
    shown = docker.addresses()
    pools = {pool.id: pool for pool in records.pools}
    for record in records.addresses:
        pool = pools[record.pool]
        if record.address not in shown and _has_no_owner(record, pool):
            yield LostAddress(holding=_holding(record), overlay=pool.overlay)


def _has_no_owner(record: AddressRecord, pool: PoolRecord) -> bool:
    """Tell whether only Docker can say who has an address.

    The gateway that dni chose for a plain pool is no such thing: engines before 28 do not show it.
    """
    if record.state is AddressState.RESERVED:
        return record.network is None and (pool.subnet is None or record.address != gateway_of(pool.subnet))
    return record.state is AddressState.CLAIMED


def _lost_endpoints(records: Records, docker: DockerView) -> Iterator[LostEndpoint]:
    listed = {endpoint.id for network in docker.networks for endpoint in network.endpoints}
    shown = docker.addresses()
    held: dict[str, list[Holding]] = {}
    for record in records.addresses:
        if record.endpoint is not None:
            held.setdefault(record.endpoint, []).append(_holding(record))
    for endpoint in records.endpoints:
        holdings = held.get(endpoint.id, [])
        if endpoint.id not in listed and shown.isdisjoint(holding.address for holding in holdings):
            yield _lost_endpoint(endpoint, holdings)


def _lost_endpoint(endpoint: EndpointRecord, holdings: Iterable[Holding]) -> LostEndpoint:
    return LostEndpoint(
        id=endpoint.id,
        network=endpoint.network,
        sandbox=endpoint.sandbox,
        since=endpoint.since,
        holdings=tuple(holdings),
    )


def _lost_networks(records: Records, docker: DockerView, endpoints: Iterable[LostEndpoint]) -> Iterator[LostNetwork]:
    listed = {network.id for network in docker.networks}
    on: dict[str, list[LostEndpoint]] = {}
    for endpoint in endpoints:
        on.setdefault(endpoint.network, []).append(endpoint)
    peopled = Counter(endpoint.network for endpoint in records.endpoints)
    for network in records.networks:
        if network.id not in listed and len(on.get(network.id, [])) == peopled[network.id]:
            yield LostNetwork(
                id=network.id,
                label=network.label,
                overlay=network.overlay,
                since=network.since,
                endpoints=tuple(on.get(network.id, [])),
            )


def _lost_pools(records: Records, docker: DockerView) -> Iterator[LostPool]:
    for pool in records.pools:
        if pool.overlay is None and not _networks_on(pool, records, docker):
            held = [record for record in records.addresses if record.pool == pool.id and record.state in HELD]
            yield LostPool(id=pool.id, since=pool.since, holdings=tuple(map(_holding, held)))


def _wrong_uses(records: Records, docker: DockerView) -> Iterator[WrongUses]:
    """Answer the counts to put right.

    An overlay has one network: any count is as good as one. A plain pool without networks is lost altogether.
    """
    for pool in records.pools:
        right = len(_networks_on(pool, records, docker))
        is_wrong = right != pool.uses if pool.overlay is None else pool.uses > 0
        if is_wrong and bool(right) == (pool.overlay is None):
            yield WrongUses(id=pool.id, since=pool.since, uses=pool.uses, right=right)


def _networks_on(pool: PoolRecord, records: Records, docker: DockerView) -> set[str]:
    """Answer the ids of the networks that use a pool: by what Docker shows, and by our records."""
    subnets = set(map(str, _subnets_of(pool, records)))
    shown = {network.id for network in docker.networks if not subnets.isdisjoint(network.subnets)}
    return shown | {network.id for network in records.networks if network.overlay == pool.overlay}


def _subnets_of(pool: PoolRecord, records: Records) -> Iterator[object]:
    """Answer what Docker may show as a pool's subnet: what its user typed, or what dni answered."""
    if pool.overlay is None:
        yield pool.subnet
        return
    yield from records.halves(pool.overlay, pool.family)
    for overlay in records.overlays:
        space = overlay.space(pool.family)
        if overlay.name == pool.overlay and space is not None:
            yield space[0]


def _holding(record: AddressRecord) -> Holding:
    return Holding(
        pool=record.pool,
        address=record.address,
        state=record.state,
        container=record.container,
        since=record.since,
    )


def newest(leak: Leak) -> float:
    """Answer when the youngest part of a leak came into its state, in seconds since 1970."""
    match leak:
        case LostAddress(holding=holding):
            return holding.since
        case LostEndpoint(since=since, holdings=holdings) | LostPool(since=since, holdings=holdings):
            return max([since, *(held.since for held in holdings)])
        case LostNetwork(since=since, endpoints=endpoints):
            return max([since, *map(newest, endpoints)])
        case WrongUses(since=since):
            return since


def containers_addresses(leak: Leak) -> list[Address]:
    """Answer the addresses that a container would answer for, if it were there after all."""
    match leak:
        case LostAddress(holding=holding):
            return [holding.address] if holding.state in HELD else []
        case LostEndpoint(holdings=holdings) | LostPool(holdings=holdings):
            return [held.address for held in holdings]
        case LostNetwork(endpoints=endpoints):
            return [address for endpoint in endpoints for address in containers_addresses(endpoint)]
        case WrongUses():
            return []


def describe(leak: Leak) -> tuple[str, str]:
    """Answer in words what a leak is about, and what is wrong with it."""
    match leak:
        case LostAddress(holding=held):
            return f"address {held}", f"is {held.state} in pool {held.pool}, but Docker shows it nowhere"
        case LostEndpoint(id=name, holdings=holdings):
            addresses = ", ".join(map(str, holdings)) or "no address"
            return f"endpoint {name[:12]}", f"is recorded with {addresses}, but Docker does not list it"
        case LostNetwork(label=name, overlay=overlay):
            return f"network {name}", f"is recorded on overlay {overlay!r}, but Docker does not list it"
        case LostPool(id=name):
            return f"pool {name}", "is recorded, but no Docker network uses it"
        case WrongUses(id=name, uses=uses, right=right):
            return f"pool {name}", f"counts {uses} uses, but in Docker it has {right}"
