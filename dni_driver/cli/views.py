# SPDX-License-Identifier: Apache-2.0
"""The agent's reports as text for people."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import msgspec

from dni_driver.cli import agents, usage
from dni_driver.cli.tables import table
from dni_driver.core.addresses.allocation import Usage
from dni_driver.core.invariants.finding import Finding
from dni_driver.core.options.bandwidth import write_rate
from dni_driver.core.overlays import Family
from dni_driver.core.records import AddressState
from dni_driver.core.reports import AddressReport, OverlayReport, PortReport, Repair, ReservationReport, Status

_SHORT_ID = 12
_ALL_IS_WELL = "All is well: records, kernel and Docker agree."


class Check(msgspec.Struct, frozen=True):
    """What POST /v1/check answers."""

    findings: list[Finding]


class Removed(msgspec.Struct, frozen=True):
    """What `dni overlay rm` answers."""

    removed: str


class Kept(msgspec.Struct, frozen=True):
    """What `dni overlay keep` answers."""

    kept: str


def status(report: Status) -> str:
    """Show a host: who it is, what it rests on, its overlays, its problems and those of other agents."""
    docker = report.docker
    others = len(report.cluster.agents) > 1
    facts = (
        ("agent", report.agent or "not known yet"),
        ("registry", report.registry),
        *((("agents", agents.count(report.cluster.agents)),) if others else ()),
        ("store", report.store),
        ("docker", docker.version if docker.reachable else f"not reachable: {docker.error}"),
        ("dni", report.version),
    )
    parts = [
        "\n".join(f"{name:<10}{value}" for name, value in facts),
        overlays(report.overlays) if report.overlays or not report.problems else "",
        usage.halves(report.halves),
        agents.cluster(report.cluster),
        "\n".join(f"problem: {problem}" for problem in report.problems),
        agents.problems(report.cluster),
    ]
    return "\n\n".join(filter(None, parts))


def overlays(reports: Sequence[OverlayReport]) -> str:
    """Show overlays, a line for each family."""
    if not reports:
        return "There is no overlay yet: dni overlay create NAME --subnet 10.64.0.0/16"
    titles: tuple[str, ...] = ("OVERLAY", "SUBNET", "PER AGENT", "DOCKER HALF", "SIZE", "USED", "RESERVED", "FREE")
    rows = [row for report in reports for row in _overlay_rows(report)]
    if any(report.agents > 1 for report in reports):
        titles = (*titles, "NETWORK", "BACKEND", "AGENTS")
        rows = [(*row, *_shared(reports, row[0])) for row in rows]
    else:
        titles = (*titles, "NETWORK")
    return "\n".join([table(titles, rows), *_leaving(reports)])


def _leaving(reports: Sequence[OverlayReport]) -> Iterator[str]:
    for report in reports:
        if report.leaving:
            yield (
                f"Overlay {report.name} is being removed, as agent {report.leaving} was told to; to call that off: "
                f"dni overlay keep {report.name}"
            )


def _shared(reports: Sequence[OverlayReport], name: object) -> tuple[object, ...]:
    """Answer what matters of an overlay that several agents hold."""
    return next((report.backend, report.agents) for report in reports if report.name == name)


def _overlay_rows(report: OverlayReport) -> Iterator[tuple[object, ...]]:
    if report.subnet:
        yield _overlay_row(report, report.subnet, report.prefix, 4, report.usage.v4)
    if report.subnet6:
        yield _overlay_row(report, report.subnet6, report.prefix6, 6, report.usage.v6)
    if report.local_subnet:
        yield _row(report, "this host's own", None, [report.local_subnet], report.usage.v4)


def _overlay_row(
    report: OverlayReport, subnet: str, prefix: int | None, family: Family, used: Usage | None
) -> tuple[object, ...]:
    halves = [half for half in report.docker_halves if (":" in half) == (family == 6)]  # noqa: PLR2004
    return _row(report, subnet, f"/{prefix}", halves, used)


def _row(
    report: OverlayReport, subnet: str, prefix: str | None, halves: Sequence[str], used: Usage | None
) -> tuple[object, ...]:
    counts = (used.size, used.used, used.reserved, used.free) if used else (None, None, None, None)
    network = report.network.name if report.network else None
    return report.name, subnet, prefix, ", ".join(halves) or None, *counts, network


def created(report: OverlayReport) -> str:
    """Show a new overlay, and how its Docker network is used, or made where there is none yet."""
    lines = [overlays([report]), ""]
    if report.hindrance:
        lines.append(f"problem: {report.hindrance}")
    if report.network:
        lines.append(f"Its Docker network is there: docker run --net {report.network.name} …")
    elif report.create:
        lines.append(f"Its Docker network on this host: {report.create}")
        if report.hindrance:
            lines.append(f"Or take the overlay back, on every host: dni overlay rm {report.name}")
    return "\n".join(lines)


def changed(report: OverlayReport) -> str:
    """Show an overlay whose backend is another now."""
    return f"{report.name}: backend {report.backend}, in the whole cluster"


def removed(report: Removed) -> str:
    """Show what is gone."""
    return report.removed


def kept(report: Kept) -> str:
    """Show what stays."""
    return report.kept


def addresses(reports: Sequence[AddressReport]) -> str:
    """Show addresses and who holds them, with limits and groups where any of them has some."""
    if not reports:
        return "No address is in use."
    titles: tuple[str, ...] = ("ADDRESS", "STATE", "OVERLAY", "CONTAINER", "ENDPOINT", "NETWORK", "SINCE")
    rows = [_address_row(report) for report in reports]
    if any(report.egress or report.ingress for report in reports):
        titles = (*titles, "EGRESS", "INGRESS")
        rows = [(*row, *_limits(report)) for row, report in zip(rows, reports, strict=True)]
    if any(report.groups for report in reports):
        titles = (*titles, "GROUPS")
        rows = [(*row, ",".join(report.groups) or None) for row, report in zip(rows, reports, strict=True)]
    return table(titles, rows)


def ports(reports: Sequence[PortReport]) -> str:
    """Show which ports of this host lead where, as Docker writes them."""
    if not reports:
        return "No port is published."
    titles = ("HOST", "CONTAINER", "LEADS TO", "NETWORK")
    return table(titles, [_port_row(report) for report in reports])


def _port_row(report: PortReport) -> tuple[object, ...]:
    host = f"{_before_port(report.host_ip)}:{report.host_port}"
    inside = f"{_before_port(report.container_ip or '?')}:{report.container_port}/{report.protocol}"
    return host, report.container or report.endpoint[:_SHORT_ID], inside, report.network


def _before_port(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def limited(report: AddressReport) -> str:
    """Show an address whose limits were changed."""
    return addresses([report])


def _address_row(report: AddressReport) -> tuple[object, ...]:
    endpoint = report.endpoint and report.endpoint[:_SHORT_ID]
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.since))
    address = f"{report.address}-{report.last}" if report.last else report.address
    is_both = report.reserved and report.state != AddressState.RESERVED
    state = f"{report.state}, reserved" if is_both else report.state
    return address, state, report.overlay, report.container, endpoint, report.network, since


def reserved(report: ReservationReport) -> str:
    """Show what is kept back, and how its container is started."""
    whom = f"reserved for container {report.container}" if report.container else "held back"
    number = f" ({report.size} addresses)" if report.size > 1 else ""
    shown = f"{bare(report)} of overlay {report.overlay} is {whom}{number}."
    if not report.docker_run:
        return shown
    needs = ", where the network was created with --subnet" if " --ip" in report.docker_run else ""
    return f"{shown}\nOn any Docker Engine{needs}: docker run {report.docker_run} …"


def bare(report: ReservationReport) -> str:
    """Show the address, or the range, alone."""
    return report.first if report.first == report.last else f"{report.first}-{report.last}"


def given_up(reports: Sequence[ReservationReport]) -> str:
    """Show what is no longer reserved."""
    return "\n".join(bare(report) for report in reports)


def _limits(report: AddressReport) -> tuple[object, ...]:
    return tuple(write_rate(limit) if limit else None for limit in (report.egress, report.ingress))


def check(report: Check) -> str:
    """Show what does not agree, and what mends it."""
    return _findings(report.findings)


def _findings(found: Sequence[Finding]) -> str:
    lines = (f"{finding.about}: {finding.problem}\n  to mend it: {finding.mend}" for finding in found)
    return "\n".join(lines) or _ALL_IS_WELL


def repair(report: Repair) -> str:
    """Show what was mended, and what is left."""
    changed = [f"changed: {change}" for change in report.changed]
    freed = [f"freed: {freed}" for freed in report.freed]
    return "\n".join([*changed, *freed, _findings(report.findings)])
