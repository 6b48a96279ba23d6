# SPDX-License-Identifier: Apache-2.0
"""What must be true of this host: of the store in itself, of the kernel by it, and of Docker beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from ipaddress import ip_network
from itertools import combinations, pairwise

import msgspec

from dni_driver.core.addresses.allocation import container_span, whole_spans
from dni_driver.core.cni_records import CniEndpointRecord
from dni_driver.core.data_plane.paths import problems
from dni_driver.core.invariants.leaks import describe, leaks, newest
from dni_driver.core.mtu import Underlay, misfits
from dni_driver.core.names import docker_bridge, egress_link, host_link, mesos_bridge
from dni_driver.core.options.bandwidth import write_limit
from dni_driver.core.overlays import Address, Network, family_of, share_addresses
from dni_driver.core.ports import PortRecord, are_shared
from dni_driver.core.records import (
    HELD,
    AddressState,
    EndpointRecord,
    Records,
    mesos_pool_id,
    pool_id,
)
from dni_driver.core.views import BridgeView, DockerEndpoint, DockerNetwork, DockerView, KernelView, LinkView, is_dni
from dni_driver.core.wanted import Bridge, Link, Wanted

SETTLED = 60.0
"""Seconds after which no action of dockerd can still be at work on a record: two handlers of 20 s, and 15 s in which
it repeats a call that found nobody."""

REPAIR = "dni repair"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it must be: what it is about, what is wrong, and what mends it."""

    about: str
    problem: str
    mend: str


def findings(
    records: Records, kernel: KernelView | None, docker: DockerView | None, wanted: Wanted, now: float
) -> list[Finding]:
    """Answer everything that is wrong; kernel and Docker, where given, must have been read after the records.

    `now` is in seconds since 1970: what changed less than a minute ago may still be on its way to kernel and Docker.
    """
    found = list(_in_the_store(records))
    if kernel is not None:
        found += _in_the_kernel(records, kernel, wanted, now)
    if docker is not None:
        found += _beside_docker(records, docker, now)
    return found


def is_settled(since: float, now: float) -> bool:
    """Tell whether something is old enough; what bears a date to come is not (the clock was set back)."""
    return now - since >= SETTLED


def _damaged(about: str, problem: str) -> Finding:
    return Finding(about=about, problem=problem, mend="stop dni and put back a copy of its store, or report this")


def _in_the_store(records: Records) -> Iterator[Finding]:
    yield from _overlaps(records)
    yield from _unknown_owners(records)
    yield from _crowded(records)
    yield from _misfits(records)
    yield from _misplaced(records)
    yield from _one_sided(records)
    yield from _kept_amiss(records)
    yield from _published_amiss(records)


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
        elif all(interface.version != record.at.family for interface in endpoint.interfaces()):
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


def _in_the_kernel(records: Records, kernel: KernelView, wanted: Wanted, now: float) -> Iterator[Finding]:
    young = {docker_bridge(network.overlay) for network in records.networks if not is_settled(network.since, now)}
    young |= {mesos_bridge(one.overlay) for one in records.cni_networks if not is_settled(one.since, now)}
    for endpoint in _endpoints(records):
        if not is_settled(endpoint.since, now):
            young |= {host_link(endpoint.id), egress_link(endpoint.id)}
    for about, problem in (*_bridges(kernel, wanted), *_links(records, kernel, wanted)):
        if about not in young:
            yield Finding(about=about, problem=problem, mend=REPAIR)
    for problem in kernel.firewall:
        yield Finding(about="firewall", problem=problem, mend=REPAIR)
    for about, problem in kernel.peers:
        yield Finding(about=about, problem=problem, mend=REPAIR)
    if kernel.underlay is not None:
        yield from _too_large(records, kernel.underlay)
        yield from _out_of_reach(records, kernel.underlay)


def _endpoints(records: Records) -> list[EndpointRecord | CniEndpointRecord]:
    return [*records.endpoints, *records.cni_endpoints]


def _too_large(records: Records, underlay: Underlay) -> Iterator[Finding]:
    """Find networks whose MTU the underlay no longer carries."""
    for network, arithmetic in misfits(records, underlay):
        yield Finding(
            about=f"network {network.label}",
            problem=arithmetic,
            mend=f"raise the MTU of {underlay.link}, or create the network again with a smaller -o mtu",
        )


def _out_of_reach(records: Records, underlay: Underlay) -> Iterator[Finding]:
    """Find overlays whose backend does not reach all peers."""
    for about, problem in problems(records.overlays, records.peers, underlay):
        yield Finding(about=about, problem=problem, mend="have the overlay's backend be auto or vxlan")


def _bridges(kernel: KernelView, wanted: Wanted) -> Iterator[tuple[str, str]]:
    there = {bridge.name: bridge for bridge in kernel.bridges}
    for bridge in wanted.bridges:
        view = there.pop(bridge.name, None)
        for problem in _bridge_faults(bridge, view) if view else ["is missing"]:
            yield bridge.name, problem
    for name in there:
        yield name, "is a bridge of dni that no network needs"


def _bridge_faults(bridge: Bridge, view: BridgeView) -> Iterator[str]:
    if not view.up:
        yield "is down"
    if view.mtu != bridge.mtu:
        yield f"has MTU {view.mtu} instead of {bridge.mtu}"
    carried = {address for address in view.addresses if not address.is_link_local}
    for address in sorted(set(bridge.addresses) - carried, key=str):
        yield f"lacks address {address}"
    for address in sorted(carried - set(bridge.addresses), key=str):
        yield f"carries address {address}, which is not its own"


def _links(records: Records, kernel: KernelView, wanted: Wanted) -> Iterator[tuple[str, str]]:
    there = {link.name: link for link in kernel.links}
    for link in wanted.links:
        view = there.get(link.host)
        for problem in _link_faults(link, view) if view else ["is missing"]:
            yield link.host, f"{problem} (link of endpoint {link.endpoint[:12]})"
    known = {name(endpoint.id) for endpoint in _endpoints(records) for name in (host_link, egress_link)}
    for name in sorted({*there, *kernel.ifbs} - known):
        yield name, "is a link of dni that no endpoint has"


def _link_faults(link: Link, view: LinkView) -> Iterator[str]:
    if view.bridge != link.bridge:
        yield f"hangs on {view.bridge or 'no bridge'} instead of {link.bridge}"
    if not view.up:
        yield "is down"
    if view.mtu != link.mtu:
        yield f"has MTU {view.mtu} instead of {link.mtu}"
    if view.limits.egress != link.limits.egress:
        yield _off_limit("egress", view.limits.egress, link.limits.egress)
    if view.limits.ingress != link.limits.ingress:
        yield _off_limit("ingress", view.limits.ingress, link.limits.ingress)


def _off_limit(direction: str, there: int | None, wanted: int | None) -> str:
    return f"is held to {direction}={write_limit(there)} instead of {direction}={write_limit(wanted)}"


def _beside_docker(records: Records, docker: DockerView, now: float) -> Iterator[Finding]:
    for about, problem in sorted(describe(leak) for leak in leaks(records, docker) if is_settled(newest(leak), now)):
        yield Finding(about=about, problem=problem, mend=REPAIR)
    known = {network.id for network in records.networks}
    endpoints = {endpoint.id: _shown(endpoint, records) for endpoint in records.endpoints}
    held = {record.address for record in records.addresses if record.state in HELD}
    yield from unknown_networks(records, docker)
    for network in docker.networks:
        if network.id in known or is_dni(network.driver):
            yield from _strange_endpoints(network, endpoints)
        else:
            yield from _misused_overlay(network, records)
            yield from _strange_addresses(network, held)


def unknown_networks(records: Records, docker: DockerView) -> Iterator[Finding]:
    """Find networks of Docker's on dni that no record tells of: the store is another one, or was lost."""
    known = {network.id for network in records.networks}
    for network in docker.networks:
        if is_dni(network.driver) and network.id not in known:
            yield Finding(
                about=f"network {network.name}",
                problem="is in Docker, but dni has no record of it",
                mend=f"docker network rm {network.name}, then create it again; where the store was lost, stop dni "
                f"and put back a copy of it",
            )


def _shown(endpoint: EndpointRecord, records: Records) -> list[Address]:
    """Answer the addresses that Docker shows of an endpoint: all but those that it gave back already.

    From 29 on it gives an IPv6 address back where the container has IPv6 switched off.
    """
    leaving = {
        record.address
        for record in records.addresses
        if record.endpoint == endpoint.id and record.state is AddressState.LEAVING
    }
    return [interface.ip for interface in endpoint.interfaces() if interface.ip not in leaving]


def _strange_endpoints(network: DockerNetwork, known: Mapping[str, list[Address]]) -> Iterator[Finding]:
    for endpoint in network.endpoints:
        addresses = known.get(endpoint.id)
        if addresses is None:
            yield _strange(endpoint, f"is on network {network.name} in Docker, but dni has no record of its endpoint")
        elif endpoint.addresses and set(endpoint.addresses) != set(addresses):
            ours = ", ".join(map(str, addresses))
            yield _strange(endpoint, f"has {_listed(endpoint)} on network {network.name}, but dni recorded {ours}")


def _strange_addresses(network: DockerNetwork, held: Container[Address]) -> Iterator[Finding]:
    for endpoint in network.endpoints:
        if any(address not in held for address in endpoint.addresses):
            problem = f"has {_listed(endpoint)} on network {network.name}, which dni would hand out again"
            yield _strange(endpoint, problem)


def _strange(endpoint: DockerEndpoint, problem: str) -> Finding:
    return Finding(
        about=f"container {endpoint.container}", problem=problem, mend=f"docker restart {endpoint.container}"
    )


def _listed(endpoint: DockerEndpoint) -> str:
    return ", ".join(map(str, endpoint.addresses))


def _misused_overlay(network: DockerNetwork, records: Records) -> Iterator[Finding]:
    """Find `--ipam-driver dni` on an overlay's subnet with the driver of somebody else."""
    for overlay in records.overlays:
        for subnet in overlay.subnets():
            if any(share_addresses(ip_network(text), subnet) for text in network.subnets):
                yield Finding(
                    about=f"network {network.name}",
                    problem=f"takes addresses of overlay {overlay.name!r}, but its driver is {network.driver!r}",
                    mend=f"docker network rm {network.name}, then create it with -d dni, or on a --subnet that no "
                    f"overlay has",
                )
