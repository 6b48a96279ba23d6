# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a host: every judge of `dni doctor`, and every kind of finding there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from dni_driver.core import (
    docker_ailments,
    engines,
    firewall_ailments,
    kernel_ailments,
    state_ailments,
)
from dni_driver.core.ailments import Ailment, Severity
from dni_driver.core.host_facts import Facts

KINDS = (
    *state_ailments.KINDS,
    *docker_ailments.KINDS,
    *kernel_ailments.KINDS,
    *firewall_ailments.KINDS,
)

JUDGES: tuple[Callable[[Facts], Iterator[Ailment]], ...] = (
    state_ailments.settings,
    state_ailments.store,
    state_ailments.lost_store,
    state_ailments.disk,
    state_ailments.clock,
    state_ailments.programs,
    docker_ailments.engine,
    docker_ailments.sockets,
    docker_ailments.permissions,
    docker_ailments.specs,
    docker_ailments.second_drivers,
    kernel_ailments.missing_features,
    kernel_ailments.forwarding,
    kernel_ailments.ipv6,
    kernel_ailments.source_filters,
    kernel_ailments.underlay,
    kernel_ailments.large_packets,
    kernel_ailments.containers_mtu,
    kernel_ailments.checksums,
    kernel_ailments.strange_bridges,
    firewall_ailments.missing_commands,
    firewall_ailments.rule_sets,
    firewall_ailments.strange_chains,
)


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
    found = [ailment for judge in JUDGES for ailment in judge(facts)]
    return sorted(found, key=lambda ailment: ailment.severity is not Severity.ERROR)


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
