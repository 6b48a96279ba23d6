# SPDX-License-Identifier: Apache-2.0
"""What people are shown of the records."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import msgspec

from dni_driver.core.addresses import allocation
from dni_driver.core.addresses.allocation import Usage, container_span
from dni_driver.core.addresses.filling import HalfReport
from dni_driver.core.addresses.reservations import start_words
from dni_driver.core.cluster import ClusterReport
from dni_driver.core.errors import NotFound
from dni_driver.core.invariants.finding import Finding
from dni_driver.core.options.bandwidth import Limits
from dni_driver.core.overlays import Address, Backend, Family, Overlay
from dni_driver.core.ports import PortRecord
from dni_driver.core.records import AddressState, NetworkRecord, Records, ReservationRecord, mesos_pool_id, pool_id
from dni_driver.core.wanted import cni_limits_of, limits_of

_CREATE = "docker network create -d dni --ipam-driver dni {1}--ipam-opt overlay={0} {0}"


class NetworkReport(msgspec.Struct, frozen=True, kw_only=True):
    """A Docker network."""

    id: str
    name: str


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """How full this agent's Docker halves of an overlay are; None for a family it does not speak here."""

    v4: Usage | None
    v6: Usage | None


class OverlayReport(msgspec.Struct, frozen=True, kw_only=True):
    """An overlay, this agent's part of it, and how full that is.

    `create` is the command that makes its Docker network here; None where there is one. `hindrance`: why the agent,
    just asked to make it, could not. `local_subnet` is what an IPv6-only overlay has for IPv4 on this host; `agents`
    how many agents hold some of it. `leaving`: it is being removed, as that agent was told to.
    """

    name: str
    subnet: str | None
    prefix: int | None
    subnet6: str | None
    prefix6: int | None
    backend: Backend
    agent_subnets: list[str]
    docker_halves: list[str]
    mesos_halves: list[str]
    network: NetworkReport | None
    create: str | None
    usage: UsageReport
    local_subnet: str | None = None
    agents: int = 0
    hindrance: str | None = None
    leaving: str | None = None


class AddressReport(msgspec.Struct, frozen=True, kw_only=True):
    """An address of this host; `since` in seconds since 1970, `network` by its name where that is known.

    `reserved`: somebody keeps it back, `reserved_for` a container. Of a range kept back `last` is the last one; those
    of it that are in use are reported by themselves too. `egress` and `ingress` are what its container may send and
    be sent, in bits a second; None for no limit. `groups` are those its container is in.
    """

    pool: str
    overlay: str | None
    address: str
    state: str
    endpoint: str | None
    network: str | None
    container: str | None
    since: float
    last: str | None = None
    reserved: bool = False
    reserved_for: str | None = None
    egress: int | None = None
    ingress: int | None = None
    groups: tuple[str, ...] = ()


class ReservationReport(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses kept back, for a container or for whoever asks for one by itself; `since` in seconds since 1970.

    `docker_run` is how its container is started on any engine; None where there is no network, or no container, or no
    way that every engine has.
    """

    overlay: str
    first: str
    last: str
    size: int
    container: str | None
    since: float
    docker_run: str | None = None


class PortReport(msgspec.Struct, frozen=True, kw_only=True):
    """A published port: an address and port of this host, and where in which container it leads.

    `host_ip` is 0.0.0.0 or :: for all addresses of that family. `network` is the Docker network that the container is
    reached by, by its name where that is known.
    """

    protocol: str
    host_ip: str
    host_port: int
    container: str | None
    container_ip: str | None
    container_port: int
    network: str | None
    endpoint: str


class DockerReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether dockerd answered when it was last asked."""

    reachable: bool
    version: str | None = None
    error: str | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """This host at a glance; `agent` is the agent IP, `problems` are in words, `halves` those that can be counted."""

    version: str
    agent: str | None
    registry: str
    docker: DockerReport
    store: str
    overlays: list[OverlayReport]
    problems: list[str]
    cluster: ClusterReport = ClusterReport(agents=[])
    halves: list[HalfReport] = []


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair has changed in the kernel, freed in the store, and could not mend."""

    changed: list[str]
    freed: list[str]
    findings: list[Finding]


def overlay_reports(records: Records) -> list[OverlayReport]:
    """Report every overlay, by name."""
    networks = {network.overlay: network for network in records.networks}
    return [_overlay_report(overlay, networks.get(overlay.name), records) for overlay in records.overlays]


def overlay_report(records: Records, name: str) -> OverlayReport:
    """Report one overlay; raise NotFound."""
    for report in overlay_reports(records):
        if report.name == name:
            return report
    raise unknown_overlay(name)


def unknown_overlay(name: str) -> NotFound:
    """Build the error of an overlay that this host does not know."""
    return NotFound(f"there is no overlay {name!r}: `dni overlay ls` lists them")


def _overlay_report(overlay: Overlay, network: NetworkRecord | None, records: Records) -> OverlayReport:
    held = [held for held in records.agent_subnets if held.overlay == overlay.name]
    local = _local_subnet(overlay, network, records)
    return OverlayReport(
        name=overlay.name,
        subnet=str(overlay.subnet) if overlay.subnet else None,
        prefix=overlay.prefix,
        subnet6=str(overlay.subnet6) if overlay.subnet6 else None,
        prefix6=overlay.prefix6,
        backend=overlay.backend,
        agent_subnets=[str(one.subnet) for one in held],
        docker_halves=[str(one.docker_half) for one in held],
        mesos_halves=[str(one.mesos_half) for one in held],
        network=NetworkReport(id=network.id, name=network.label) if network else None,
        create=None
        if network or overlay.name in records.leaving
        else _CREATE.format(overlay.name, "--ipv6 " if overlay.subnet6 else ""),
        usage=UsageReport(v4=usage(records, overlay, 4), v6=usage(records, overlay, 6)),
        local_subnet=local,
        agents=bool(held) + sum(any(one.overlay == overlay.name for one in peer.subnets) for peer in records.peers),
        leaving=str(records.leaving[overlay.name]) if overlay.name in records.leaving else None,
    )


def _local_subnet(overlay: Overlay, network: NetworkRecord | None, records: Records) -> str | None:
    """Answer the local subnet that an overlay's network uses."""
    used = [local.subnet for local in records.local_subnets if local.overlay == overlay.name]
    return str(used[0]) if used and network is not None and network.gateway is not None else None


def usage(records: Records, overlay: Overlay, family: Family) -> Usage | None:
    """Count what this agent's Docker halves of an overlay offer to containers; None without that family."""
    halves = records.halves(overlay.name, family)
    if overlay.space(family) is None and not halves:
        return None
    spans = [container_span(half) for half in halves]
    pool = pool_id(overlay.name, family)
    kept = [one for one in records.reservations if one.overlay == overlay.name]
    return allocation.usage(spans, [record for record in records.addresses if record.pool == pool], kept)


def address_reports(records: Records, overlay: str | None, *, with_free: bool) -> Iterator[AddressReport]:
    """Report addresses, of one overlay or all, by pool and in order; free ones are those that were used before.

    Raises NotFound for an unknown overlay.
    """
    if overlay is not None and overlay not in {known.name for known in records.overlays}:
        raise unknown_overlay(overlay)
    found = [*_recorded(records, with_free=with_free), *_kept_back(records)]
    for report in sorted(found, key=lambda report: (report.pool, int(ip_address(report.address)))):
        if overlay in (None, report.overlay):
            yield report


def _recorded(records: Records, *, with_free: bool) -> Iterator[AddressReport]:
    """Report what was used; a reserved address that is free again is reported as what it is reserved for."""
    labels = {network.id: network.label for network in records.networks}
    overlays = {pool.id: pool.overlay for pool in records.pools}
    limits, groups = _limits(records), _groups(records)
    for record in records.addresses:
        holder = record.endpoint or record.cni_endpoint or ""
        held_to = limits.get(holder, Limits())
        of = overlays.get(record.pool)
        kept = next((one for one in records.reservations if one.overlay == of and record.address in one), None)
        if record.state is not AddressState.FREE or (with_free and kept is None):
            yield AddressReport(
                pool=record.pool,
                overlay=of,
                address=str(record.address),
                state=record.state,
                endpoint=record.endpoint,
                network=labels.get(record.network) if record.network else None,
                container=record.container,
                since=record.since,
                reserved=kept is not None,
                reserved_for=kept.container if kept else None,
                egress=held_to.egress,
                ingress=held_to.ingress,
                groups=groups.get(holder, ()),
            )


def _kept_back(records: Records) -> Iterator[AddressReport]:
    """Report what is kept back: ranges, and single addresses that nobody has."""
    held = {(record.pool, record.address) for record in records.addresses if record.state is not AddressState.FREE}
    for one in records.reservations:
        is_mesos = any(one.first in half for half in records.mesos_halves(one.overlay, one.family))
        pool = (mesos_pool_id if is_mesos else pool_id)(one.overlay, one.family)
        if one.first != one.last or (pool, one.first) not in held:
            yield AddressReport(
                pool=pool,
                overlay=one.overlay,
                address=str(one.first),
                last=str(one.last) if one.first != one.last else None,
                state=AddressState.RESERVED,
                endpoint=None,
                network=None,
                container=one.container,
                since=one.since,
                reserved=True,
                reserved_for=one.container,
            )


def reservation_report(one: ReservationRecord, records: Records) -> ReservationReport:
    """Report a reservation, with how its container is started on the overlay's network."""
    network = next((network for network in records.networks if network.overlay == one.overlay), None)
    words = start_words(one.first, network) if network and one.container else None
    return ReservationReport(
        overlay=one.overlay,
        first=str(one.first),
        last=str(one.last),
        size=int(one.last) - int(one.first) + 1,
        container=one.container,
        since=one.since,
        docker_run=f"--name {one.container} {words}" if words else None,
    )


def address_report(records: Records, address: Address) -> AddressReport:
    """Report one address; raise NotFound."""
    for report in address_reports(records, None, with_free=True):
        if report.address == str(address):
            return report
    raise NotFound(f"address {address} is not known on this host: `dni address ls` shows those that are")


def port_reports(records: Records) -> list[PortReport]:
    """Report the published ports, by host port, protocol and address."""
    return [
        _port_report(record, records)
        for record in sorted(records.ports, key=lambda one: (one.at.port, one.at.protocol, one.at.family, one.at.ip))
    ]


def _port_report(record: PortRecord, records: Records) -> PortReport:
    labels = {network.id: network.label for network in records.networks}
    endpoint = next((one for one in records.endpoints if one.id == record.endpoint), None)
    own = [one.ip for one in endpoint.interfaces()] if endpoint else []
    # Callers of IPv6 are carried to a container that has none.
    own.sort(key=lambda ip: ip.version != record.at.family)
    names = [one.container for one in records.addresses if one.endpoint == record.endpoint and one.container]
    return PortReport(
        protocol=record.at.protocol,
        host_ip=str(record.at.ip),
        host_port=record.at.port,
        container=names[0] if names else None,
        container_ip=str(own[0]) if own else None,
        container_port=record.port,
        network=labels.get(endpoint.network) if endpoint else None,
        endpoint=record.endpoint,
    )


def _limits(records: Records) -> dict[str, Limits]:
    """Answer the limits of each endpoint, of either kind, by its id."""
    networks = {network.id: network for network in records.networks}
    known = [endpoint for endpoint in records.endpoints if endpoint.network in networks]
    of_docker = {endpoint.id: limits_of(endpoint, networks[endpoint.network]) for endpoint in known}
    return of_docker | {endpoint.id: cni_limits_of(endpoint) for endpoint in records.cni_endpoints}


def _groups(records: Records) -> dict[str, tuple[str, ...]]:
    """Answer the groups of each endpoint likewise."""
    of_docker = {endpoint.id: endpoint.options.groups or () for endpoint in records.endpoints}
    return of_docker | {endpoint.id: endpoint.options.groups or () for endpoint in records.cni_endpoints}
