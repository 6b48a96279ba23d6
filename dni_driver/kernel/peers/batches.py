# SPDX-License-Identifier: Apache-2.0
"""Many entries about peers at once, by `ip -batch` and `bridge -batch`: each a process, whatever the number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter

from dni_driver.core.data_plane.entries import Entries
from dni_driver.core.data_plane.paths import AGENT_TABLE
from dni_driver.core.errors import KernelError
from dni_driver.core.names import VTEP_LINK
from dni_driver.kernel.command import attempt

PROTOCOL = 64
"""Marks routes and rules as ours (`/etc/iproute2/rt_protos` keeps 64 free)."""

_PUT: dict[str, Callable[[str, str], str]] = {
    "neighbour": lambda of, mac: f"neigh replace {of} lladdr {mac} dev {VTEP_LINK} nud permanent",
    "forwarding": lambda of, agent: f"fdb replace {of} dev {VTEP_LINK} dst {agent} self permanent",
    "route": lambda of, way: f"route replace {_typed(of, way)} proto {PROTOCOL}",
    "agent route": lambda of, way: f"route replace {_host(of)} {way} table {AGENT_TABLE} proto {PROTOCOL}",
    "rule": lambda of, table: f"rule add from {of} {table} protocol {PROTOCOL}",
}
_DELETE: dict[str, Callable[[str, str], str]] = {
    "neighbour": lambda of, _: f"neigh del {of} dev {VTEP_LINK}",
    "forwarding": lambda of, agent: f"fdb del {of} dev {VTEP_LINK} dst {agent} self",
    "route": lambda of, way: f"route del {_typed(of, way)} proto {PROTOCOL}",
    "agent route": lambda of, way: f"route del {_host(of)} {way} table {AGENT_TABLE} proto {PROTOCOL}",
    "rule": lambda of, table: f"rule del from {of} {table} protocol {PROTOCOL}",
}
_ORDER = ("neighbour", "forwarding", "route", "agent route", "rule")
"""A way there comes after what it leads over; and what is deleted goes the other way round."""
_BRIDGE_KINDS = {"forwarding"}
_ALREADY = ("File exists",)
_GONE = ("No such process", "No such file or directory", "Cannot find device", "Cannot assign requested address")
_FAILED = re.compile(r"Command failed .*:(\d+)")
_SHOWN = 3
_AT_ONCE = 1000
"""Lines, which end in good time: the kernel compares a new route with all that lead over the same link."""


def _typed(subnet: str, way: str) -> str:
    return f"unreachable {subnet}" if way == "unreachable" else f"{subnet} {way}"


def _is_ipv6(text: str) -> bool:
    return ":" in text


def _host(agent: str) -> str:
    return f"{agent}/{128 if _is_ipv6(agent) else 32}"


def put(entries: Entries) -> None:
    """Put entries into the kernel, in place of those about the same; raise KernelError with what it refused."""
    refused = _fed(_lines(entries, _PUT, _ORDER), _ALREADY)
    if refused:
        raise KernelError(_in_words(refused))


def delete(entries: Entries) -> None:
    """Delete entries; those that are gone already are no error. Raises KernelError."""
    refused = _fed(_lines(entries, _DELETE, _ORDER[::-1]), _GONE)
    if refused:
        raise KernelError(_in_words(refused))


def _lines(
    entries: Entries, render: dict[str, Callable[[str, str], str]], order: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """Render the lines by the program that reads them, in the order in which they are to be done."""
    rendered: dict[tuple[str, str], list[str]] = {}
    for (kind, of), value in entries.items():
        if kind in order:
            rendered.setdefault((kind, _program(kind, of)), []).append(render[kind](of, value))
    in_order = sorted(rendered, key=lambda found: (order.index(found[0]), found[1]))
    return list(_joined([(program, rendered[kind, program]) for kind, program in in_order]))


def _program(kind: str, of: str) -> str:
    """Answer what reads a line: of a rule `ip` has to be told that it is IPv6's, of all else it sees it."""
    if kind in _BRIDGE_KINDS:
        return "bridge"
    return "ip -6" if kind == "rule" and _is_ipv6(of) else "ip"


def _joined(portions: Iterable[tuple[str, list[str]]]) -> Iterator[tuple[str, list[str]]]:
    """Join what follows each other for one program, and cut it into what is done in good time."""
    for program, following in groupby(portions, key=itemgetter(0)):
        lines = list(chain.from_iterable(lines for _, lines in following))
        yield from ((program, lines[start : start + _AT_ONCE]) for start in range(0, len(lines), _AT_ONCE))


def _fed(portions: list[tuple[str, list[str]]], tolerated: tuple[str, ...]) -> list[tuple[str, str]]:
    """Feed lines to their programs; answer those that the kernel refused, each with what it said.

    Raises KernelError where a program itself failed, and nobody knows how far it came.
    """
    refused: list[tuple[str, str]] = []
    for program, lines in portions:
        outcome = attempt([*program.split(), "-force", "-batch", "-"], "\n".join([*lines, ""]))
        if outcome.status != 0:
            found = complaints(outcome.complaint)
            if not found:
                said = " ".join(outcome.complaint.split()) or f"it ended with status {outcome.status}"
                raise KernelError(f"`{program} -batch` failed: {said}")
            refused += [
                (f"{program} {lines[at]}", said)
                for at, said in found
                if not any(harmless in said for harmless in tolerated)
            ]
    return refused


def complaints(text: str) -> list[tuple[int, str]]:
    """Read what `ip -force -batch -` complained of: which lines failed, counted from 0, and why."""
    found, said = [], ""
    for line in text.splitlines():
        failed = _FAILED.fullmatch(line.strip())
        if failed:
            found.append((int(failed[1]) - 1, said))
            said = ""
        else:
            said = line.strip()
    return found


def _in_words(refused: Sequence[tuple[str, str]]) -> str:
    shown = "; ".join(f"`{line}`: {said.removeprefix('RTNETLINK answers: ')}" for line, said in refused[:_SHOWN])
    return f"{shown}; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else shown
