# SPDX-License-Identifier: Apache-2.0
"""What must be true of the store in itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise

from dni_driver.core.addresses.allocation import container_span, whole_spans
from dni_driver.core.invariants.finding import Finding
from dni_driver.core.overlays import Address, Network, family_of, share_addresses
from dni_driver.core.ports import PortRecord, are_shared
from dni_driver.core.records import AddressState, Records, mesos_pool_id, pool_id


def in_the_store(records: Records) -> Iterator[Finding]:
    """Find what the records say that cannot be."""
    yield from _overlaps(records)
    yield from _unknown_owners(records)
    yield from _crowded(records)
    yield from _misfits(records)
    yield from _misplaced(records)
    yield from _one_sided(records)
    yield from _kept_amiss(records)
    yield from _published_amiss(records)


def _damaged(about: str, problem: str) -> Finding:
    mend = "stop dni, move its store away with its log and put back a copy, or report this"
    return Finding(about=about, problem=problem, mend=mend)


def _overlaps(records: Records) -> Iterator[Finding]:
    """Find subnets of overlays, of plain pools and of this agent's halves that share addresses."""
    spaces = [(subnet, f"overlay {overlay.name!r}") for overlay in records.overlays for subnet in overlay.subnets()]
    spaces += [(pool.subnet, f"pool {pool.id}") for pool in records.pools if pool.subnet is not None]
    spaces += [(local.subnet, f"local subnet {local.subnet} of {local.overlay!r}") for local in records.local_subnets]
    halves = [(held.subnet, f"agent subnet {held.subnet} of {held.overlay!r}") for held in records.agent_subnets]
    for one, other in (*_overlapping(spaces), *_overlapping(halves)):
        yield _damaged(one, f"shares addresses with {other}")


def _overlapping(named: Iterable[tuple[Network, str]]) -> Iterator[tuple[str, str]]:
    ordered = sorted(named, key=lambda entry: (entry[0].version, int(entry[0].network_address), entry[0].prefixlen))
    for (one, one_name), (other, other_name) in pairwise(ordered):
        if share_addresses(one, other):
            yield one_name, other_name


def _unknown_owners(records: Records) -> Iterator[Finding]:
    overlays = {overlay.name for overlay in records.overlays}
    belonging = [(f"agent subnet {held.subnet}", held.overlay) for held in records.agent_subnets]
    belonging += [(f"local subnet {local.subnet}", local.overlay) for local in records.local_subnets]
    belonging += [(f"pool {pool.id}", pool.overlay) for pool in records.pools if pool.overlay is not None]
    belonging += [(f"network {network.label}", network.overlay) for network in records.networks]
    for about, overlay in belonging:
        if overlay not in overlays:
            yield _damaged(about, f"belongs to overlay {overlay!r}, which is not known")
    networks = {network.id for network in records.networks}
    for endpoint in records.endpoints:
        if endpoint.network not in networks:
            yield _damaged(
                f"endpoint {endpoint.id[:12]}", f"is on network {endpoint.network[:12]}, which is not known"
            )


def _crowded(records: Records) -> Iterator[Finding]:
    for overlay, count in Counter(network.overlay for network in records.networks).items():
        if count > 1:
            yield _damaged(f"overlay {overlay!r}", f"has {count} networks on this host")


def _misfits(records: Records) -> Iterator[Finding]:
    """Find agent subnets that are none of their overlay's."""
    overlays = {overlay.name: overlay for overlay in records.overlays}
    for held in records.agent_subnets:
        space = overlays[held.overlay].space(held.family) if held.overlay in overlays else None
        if space is None or held.subnet.prefixlen != space[1] or not share_addresses(held.subnet, space[0]):
            yield _damaged(f"agent subnet {held.subnet}", f"does not fit overlay {held.overlay!r}")


def _misplaced(records: Records) -> Iterator[Finding]:
    """Find addresses held twice, held in no pool, held without a date, or outside what their pool can hand out.

    Where there are none, free + used + reserved = size in every pool.
    """
    spans = {pool.id: whole_spans(pool, records.halves_of(pool)) for pool in records.pools}
    taken: dict[Address, str] = {}
    for record in records.addresses:
        if record.state is AddressState.FREE:
            continue
        about = f"address {record.address}"
        if record.address in taken:
            yield _damaged(about, f"is held twice: in pool {taken[record.address]} and in pool {record.pool}")
        taken[record.address] = record.pool
        if not any(record.address in span for span in spans.get(record.pool, [])):
            yield _damaged(about, f"is held in pool {record.pool}, which does not have it")
        if record.since <= 0:
            yield _damaged(about, "is held without a date")


def _one_sided(records: Records) -> Iterator[Finding]:
    """Find endpoints and addresses that do not point at each other."""
    overlays = {network.id: network.overlay for network in records.networks}
    of_endpoint = {
        (pool_id(overlays[endpoint.network], family_of(interface.ip)), interface.ip): endpoint.id
        for endpoint in records.endpoints
        if endpoint.network in overlays
        for interface in endpoint.interfaces()
    }
    of_endpoint |= {
        (mesos_pool_id(endpoint.overlay, family_of(interface.ip)), interface.ip): endpoint.id
        for endpoint in records.cni_endpoints
        for interface in endpoint.interfaces()
    }
    of_address = {
        (record.pool, record.address): owner
        for record in records.addresses
        if (owner := record.endpoint or record.cni_endpoint) is not None
    }
    for (pool, address), endpoint in sorted(of_endpoint.items() - of_address.items(), key=str):
        yield _damaged(f"endpoint {endpoint[:12]}", f"has address {address}, which pool {pool} does not give it")
    for (pool, address), endpoint in sorted(of_address.items() - of_endpoint.items(), key=str):
        yield _damaged(f"address {address}", f"of pool {pool} is bound to endpoint {endpoint[:12]}, which has it not")


def _kept_amiss(records: Records) -> Iterator[Finding]:
    """Find reservations that share addresses or a container, and such as no container of this agent can have."""
    for one, other in pairwise(records.reservations):
        if one.overlay == other.overlay and other.first in one:
            yield _damaged(f"reservation {one}", f"shares addresses with {other}")
    named = Counter((one.overlay, one.family, one.container) for one in records.reservations if one.container)
    for (overlay, _, container), count in named.items():
        if count > 1:
            yield _damaged(f"container {container}", f"has {count} addresses of overlay {overlay!r} reserved")
    for one in records.reservations:
        halves = [*records.halves(one.overlay, one.family), *records.mesos_halves(one.overlay, one.family)]
        if not any(one.first in span and one.last in span for span in map(container_span, halves)):
            yield Finding(
                about=f"reservation {one}",
                problem=f"lies outside this agent's halves of overlay {one.overlay!r}",
                mend=f"dni address release {one.overlay} {one}",
            )


def _published_amiss(records: Records) -> Iterator[Finding]:
    """Find published ports that two containers have, or an endpoint that is not known, or has no such address."""
    endpoints = {endpoint.id: endpoint for endpoint in records.endpoints}
    for record in records.ports:
        endpoint = endpoints.get(record.endpoint)
        if endpoint is None:
            yield _damaged(f"port {record.at}", f"belongs to endpoint {record.endpoint[:12]}, which is not known")
        elif record.at.family == 4 and endpoint.address is None:  # noqa: PLR2004 - IPv6 gets to either
            yield _damaged(f"port {record.at}", f"leads to endpoint {endpoint.id[:12]}, which has no such address")
    sandboxes = {endpoint.id: endpoint.sandbox for endpoint in records.endpoints}
    for one, other in _overlapping_ports(records.ports):
        sandbox = sandboxes.get(one.endpoint)
        if sandbox is None or sandbox != sandboxes.get(other.endpoint) or not are_shared(one, other):
            yield _damaged(f"port {one.at}", f"overlaps {other.at} of endpoint {other.endpoint[:12]}")


def _overlapping_ports(ports: Iterable[PortRecord]) -> Iterator[tuple[PortRecord, PortRecord]]:
    by_number: dict[tuple[str, int], list[PortRecord]] = {}
    for record in ports:
        by_number.setdefault((record.at.protocol, record.at.port), []).append(record)
    for alike in by_number.values():
        yield from ((one, other) for one, other in combinations(alike, 2) if one.at.overlaps(other.at))
