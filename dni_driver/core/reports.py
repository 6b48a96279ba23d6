# SPDX-License-Identifier: Apache-2.0
"""What people are shown of the records."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from dni_driver.core.allocation import Usage, container_span
from dni_driver.core.errors import NotFound
from dni_driver.core.invariants import Finding
from dni_driver.core.overlays import Family, Overlay
from dni_driver.core.records import HELD, AddressState, NetworkRecord, Records, pool_id

_CREATE = "docker network create -d dni --ipam-driver dni --ipam-opt overlay={0} {0}"


class NetworkReport(msgspec.Struct, frozen=True, kw_only=True):
    """A Docker network."""

    id: str
    name: str


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """How full this agent's Docker halves of an overlay are; None for a family the overlay does not speak."""

    v4: Usage | None
    v6: Usage | None


class OverlayReport(msgspec.Struct, frozen=True, kw_only=True):
    """An overlay, this agent's part of it, and how full that is.

    `create` is the command that makes its Docker network here; None where there is one.
    """

    name: str
    subnet: str | None
    prefix: int | None
    subnet6: str | None
    prefix6: int | None
    backend: str
    agent_subnets: list[str]
    docker_halves: list[str]
    mesos_halves: list[str]
    network: NetworkReport | None
    create: str | None
    usage: UsageReport


class AddressReport(msgspec.Struct, frozen=True, kw_only=True):
    """An address of this host; `since` in seconds since 1970, `network` by its name where that is known."""

    pool: str
    overlay: str | None
    address: str
    state: str
    endpoint: str | None
    network: str | None
    container: str | None
    since: float


class DockerReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether dockerd answered when it was last asked."""

    reachable: bool
    version: str | None = None
    error: str | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """This host at a glance; `agent` is the agent IP, `problems` are in words."""

    version: str
    agent: str | None
    registry: str
    docker: DockerReport
    store: str
    overlays: list[OverlayReport]
    problems: list[str]


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
        create=None if network else _CREATE.format(overlay.name),
        usage=UsageReport(v4=usage(records, overlay, 4), v6=usage(records, overlay, 6)),
    )


def usage(records: Records, overlay: Overlay, family: Family) -> Usage | None:
    """Count what this agent's Docker halves of an overlay offer to containers; None without that family."""
    if overlay.space(family) is None:
        return None
    size = sum(container_span(half).size for half in records.halves(overlay.name, family))
    pool = pool_id(overlay.name, family)
    states = [record.state for record in records.addresses if record.pool == pool]
    used = sum(state in HELD for state in states)
    reserved = states.count(AddressState.RESERVED)
    return Usage(size=size, used=used, reserved=reserved, free=size - used - reserved)


def address_reports(records: Records, overlay: str | None, *, with_free: bool) -> Iterator[AddressReport]:
    """Report addresses, of one overlay or all, by pool and in order; free ones are those that were used before.

    Raises NotFound for an unknown overlay.
    """
    if overlay is not None and overlay not in {known.name for known in records.overlays}:
        raise unknown_overlay(overlay)
    labels = {network.id: network.label for network in records.networks}
    overlays = {pool.id: pool.overlay for pool in records.pools}
    for record in records.addresses:
        of = overlays.get(record.pool)
        if overlay in (None, of) and (with_free or record.state is not AddressState.FREE):
            yield AddressReport(
                pool=record.pool,
                overlay=of,
                address=str(record.address),
                state=record.state,
                endpoint=record.endpoint,
                network=labels.get(record.network) if record.network else None,
                container=record.container,
                since=record.since,
            )
