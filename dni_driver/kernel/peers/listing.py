# SPDX-License-Identifier: Apache-2.0
"""The entries about peers that the kernel has: only ours, which is what the kernel is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from dni_driver.core.data_plane.entries import Key
from dni_driver.core.data_plane.paths import AGENT_TABLE
from dni_driver.core.names import VTEP_LINK
from dni_driver.kernel import sysctl
from dni_driver.kernel.command import run
from dni_driver.kernel.peers.batches import PROTOCOL


class _Via(msgspec.Struct):
    family: str
    host: str


class _Route(msgspec.Struct):
    dst: str
    gateway: str | None = None
    via: _Via | None = None
    prefsrc: str | None = None
    dev: str | None = None
    table: str = "main"
    type: str = "unicast"


class _Neighbour(msgspec.Struct):
    dst: str
    lladdr: str = ""


class _Forwarding(msgspec.Struct):
    mac: str
    dst: str = ""
    state: str = ""


class _Rule(msgspec.Struct):
    src: str
    table: str = ""
    srclen: int = 32
    protocol: str = ""


_Row = TypeVar("_Row")


def read(*, with_vtep: bool) -> dict[Key, str]:
    """List all that is ours: routes and rules by their protocol, the rest by its link. Raises KernelError."""
    found: dict[Key, str] = {}
    for family in _families():
        ip = ["ip", family, "-N"]
        found |= _routes(_listed([*ip, "route", "show", "table", "all", "proto", str(PROTOCOL)], _Route))
        found |= _rules(_listed([*ip, "rule", "show"], _Rule))
    if with_vtep:
        found |= _on_vtep()
    return found


def _families() -> tuple[str, ...]:
    return ("-4", "-6") if sysctl.has_ipv6() else ("-4",)


def _listed(argv: list[str], row: type[_Row]) -> list[_Row]:
    text = run([argv[0], "-json", *argv[1:]])
    return msgspec.json.decode(text, type=list[row]) if text.strip() else []  # type: ignore[valid-type]


def _routes(rows: list[_Route]) -> Iterator[tuple[Key, str]]:
    for row in rows:
        way = row.type if row.type != "unicast" else _way(row)
        if row.table == str(AGENT_TABLE):
            yield ("agent route", row.dst), way
        elif row.table == "main":
            yield ("route", row.dst), way


def _way(row: _Route) -> str:
    next_hop = f"{row.via.family} {row.via.host}" if row.via else row.gateway
    return f"via {next_hop} dev {row.dev}" + (f" src {row.prefsrc}" if row.prefsrc else "")


def _rules(rows: list[_Rule]) -> Iterator[tuple[Key, str]]:
    for row in rows:
        if row.protocol == str(PROTOCOL):
            yield ("rule", f"{row.src}/{row.srclen}"), f"lookup {row.table}"


def _on_vtep() -> Iterator[tuple[Key, str]]:
    """List what hangs on the VTEP: permanent entries only, the kernel adds and removes the others by itself."""
    for family in _families():
        argv = ["ip", family, "neigh", "show", "dev", VTEP_LINK, "nud", "permanent"]
        for neighbour in _listed(argv, _Neighbour):
            yield ("neighbour", neighbour.dst), neighbour.lladdr
    for forwarding in _listed(["bridge", "fdb", "show", "dev", VTEP_LINK], _Forwarding):
        if forwarding.dst and forwarding.state == "permanent":
            yield ("forwarding", forwarding.mac), forwarding.dst
