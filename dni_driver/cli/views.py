# SPDX-License-Identifier: Apache-2.0
"""The answers of the operator API as text for people."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dni_driver.cli.tables import table

Answer = Mapping[str, Any]
"""A JSON object as the operator API gives it."""

_SHORT_ID = 12


def status(answer: Answer) -> str:
    """Show a host: who it is, what it rests on, its overlays, its problems."""
    docker = answer["docker"]
    facts = [
        ("agent", answer["agent"]),
        ("registry", answer["registry"]),
        ("store", answer["store"]),
        ("docker", docker["version"] if docker["reachable"] else f"not reachable: {docker['error']}"),
        ("dni", answer["version"]),
    ]
    problems = [f"problem: {problem}" for problem in answer["problems"]]
    lines = [f"{name:<10}{'-' if value is None else value}" for name, value in facts]
    return "\n\n".join(filter(None, ["\n".join(lines), overlays(answer["overlays"]), "\n".join(problems)]))


def overlays(answer: Sequence[Answer]) -> str:
    """Show overlays, a line for each family."""
    if not answer:
        return "There is no overlay yet: dni overlay create NAME --subnet 10.64.0.0/16"
    titles = ("OVERLAY", "SUBNET", "PER AGENT", "DOCKER HALF", "SIZE", "USED", "RESERVED", "FREE", "NETWORK")
    return table(titles, [row for overlay in answer for row in _overlay_rows(overlay)])


def _overlay_rows(overlay: Answer) -> Iterable[tuple[object, ...]]:
    network = overlay["network"] and overlay["network"]["name"]
    families = (("subnet", "prefix", "v4", "."), ("subnet6", "prefix6", "v6", ":"))
    for subnet, prefix, family, mark in families:
        if overlay[subnet]:
            halves = ", ".join(half for half in overlay["docker_halves"] if mark in half) or None
            usage = overlay["usage"][family] or {}
            counts = (usage.get(key) for key in ("size", "used", "reserved", "free"))
            yield (overlay["name"], overlay[subnet], f"/{overlay[prefix]}", halves, *counts, network)


def created(overlay: Answer) -> str:
    """Show a new overlay, and the command that makes its Docker network where there is none yet."""
    name = overlay["name"]
    if overlay["network"]:
        return overlays([overlay])
    command = f"docker network create -d dni --ipam-driver dni --ipam-opt overlay={name} {name}"
    return f"{overlays([overlay])}\n\nIts Docker network on this host: {command}"


def addresses(answer: Sequence[Answer]) -> str:
    """Show addresses and who holds them."""
    if not answer:
        return "No address is in use."
    titles = ("ADDRESS", "STATE", "OVERLAY", "CONTAINER", "ENDPOINT", "NETWORK", "SINCE")
    return table(titles, [_address_row(record) for record in answer])


def _address_row(record: Answer) -> tuple[object, ...]:
    return (
        record["address"],
        record["state"],
        record["overlay"],
        record["container"],
        _short(record["endpoint"]),
        _short(record["network"]),
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["since"])),
    )


def _short(identifier: str | None) -> str | None:
    return identifier and identifier[:_SHORT_ID]


def check(answer: Answer) -> str:
    """Show what does not agree, and what mends it."""
    return _findings(answer["findings"]) or "All is well: records, kernel and Docker agree."


def repair(answer: Answer) -> str:
    """Show what was mended, and what is left."""
    done = [f"changed: {change}" for change in answer["changed"]]
    done += [f"freed: {freed}" for freed in answer["freed"]]
    left = _findings(answer["findings"])
    return "\n".join([*done, left or "All is well: records, kernel and Docker agree."])


def _findings(findings: Sequence[Answer]) -> str:
    return "\n".join(
        f"{finding['about']}: {finding['problem']}\n  to mend it: {finding['mend']}" for finding in findings
    )
