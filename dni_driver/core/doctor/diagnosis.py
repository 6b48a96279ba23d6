# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a host: every judge of `dni doctor`, and every kind of finding there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from dni_driver.core import engines
from dni_driver.core.doctor import docker, firewall, kernel, state
from dni_driver.core.doctor.ailments import Ailment, Severity
from dni_driver.core.doctor.facts import Facts

KINDS = (
    *state.KINDS,
    *docker.KINDS,
    *kernel.KINDS,
    *firewall.KINDS,
)

JUDGES: tuple[Callable[[Facts], Iterator[Ailment]], ...] = (
    state.settings,
    state.store,
    state.lost_store,
    state.disputes,
    state.disk,
    state.clock,
    state.programs,
    docker.engine,
    docker.sockets,
    docker.permissions,
    docker.specs,
    docker.second_drivers,
    kernel.missing_features,
    kernel.forwarding,
    kernel.ipv6,
    kernel.source_filters,
    kernel.underlay,
    kernel.large_packets,
    kernel.containers_mtu,
    kernel.checksums,
    kernel.inside_overlays,
    kernel.strange_bridges,
    firewall.missing_commands,
    firewall.rule_sets,
    firewall.strange_chains,
)


LAST: tuple[Callable[[Facts], Iterator[Ailment]], ...] = (state.idle, state.complaints)
"""Asked where nothing else is found: what is found may be why."""


class Unseen(msgspec.Struct, frozen=True, kw_only=True):
    """Something that could not be looked at, and why."""

    what: str
    why: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a doctor says: what was seen in passing (`host`), what is wrong, what could not be looked at."""

    host: Mapping[str, str]
    differences: list[str]
    findings: list[Ailment]
    unseen: list[Unseen]


def diagnose(facts: Facts) -> list[Ailment]:
    """Answer everything that is wrong, errors first."""
    found = _found(JUDGES, facts) or _found(LAST, facts)
    return sorted(found, key=lambda ailment: ailment.severity is not Severity.ERROR)


def _found(judges: Iterable[Callable[[Facts], Iterator[Ailment]]], facts: Facts) -> list[Ailment]:
    return [ailment for judge in judges for ailment in judge(facts)]


def report(facts: Facts, unseen: Iterable[Unseen]) -> Report:
    """Answer all that there is to say."""
    version = engines.parsed(facts.docker.version) if facts.docker else None
    return Report(
        host=dict(_host(facts)),
        differences=engines.that_apply(version, engines.DIFFERENCES) if version else [],
        findings=diagnose(facts),
        unseen=list(unseen),
    )


def _host(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.docker is not None and facts.docker.version:
        yield "Docker Engine", facts.docker.version
    if facts.kernel is not None:
        yield "kernel", facts.kernel.release
        under = facts.kernel.underlay
        if under is not None and under.link is not None:
            yield "agent", f"{under.agent} on {under.link}, MTU {under.mtu}"
    if facts.firewall is not None:
        yield "iptables", _variants(facts)
        yield (
            "bridged frames",
            f"{'meet' if facts.kernel and facts.kernel.bridged_are_filtered else 'pass by'} iptables",
        )
    if facts.store is not None and facts.store.exists:
        free = f", {facts.disk.free >> 20} MiB free" if facts.disk is not None else ""
        yield "store", f"{facts.store.path}, {facts.store.size >> 10} KiB{free}"


def _variants(facts: Facts) -> str:
    sets = facts.firewall.rule_sets if facts.firewall else ()
    named = (f"{one.command}{' (Docker)' if one.is_dockers else ''}, FORWARD {one.policy}" for one in sets)
    return "; ".join(named) or "none"
