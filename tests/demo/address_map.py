# SPDX-License-Identifier: Apache-2.0
"""An agent subnet drawn in the terminal: a character for each address, 64 in a row."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv4Network

import click

USED, GATEWAY, FREE, NOBODYS = "#", "G", ".", "-"
_MEANINGS = {USED: "a container's", GATEWAY: "gateway", FREE: "free", NOBODYS: "network and broadcast"}
_COLOURS = {USED: "green", GATEWAY: "yellow"}
_IN_A_ROW = 64


def draw(docker_half: IPv4Network, used: Collection[IPv4Address]) -> list[str]:
    """Draw the agent subnet of which this is the Docker half, with the addresses that containers have."""
    mesos_half, _ = docker_half.supernet().subnets()
    legend = "   ".join(f"{_coloured(mark)} {meaning}" for mark, meaning in _MEANINGS.items())
    return [*_half("Mesos half", mesos_half, used), *_half("Docker half", docker_half, used), "", legend]


def _half(title: str, half: IPv4Network, used: Collection[IPv4Address]) -> Iterator[str]:
    for start in range(0, half.num_addresses, _IN_A_ROW):
        row = [half[number] for number in range(start, min(start + _IN_A_ROW, half.num_addresses))]
        marks = "".join(_coloured(_mark(address, half, used)) for address in row)
        yield f"{'' if start else title:<11}  {row[0]!s:<11}  {marks}"


def _mark(address: IPv4Address, half: IPv4Network, used: Collection[IPv4Address]) -> str:
    if address in (half.network_address, half.broadcast_address):
        return NOBODYS
    if address == half.network_address + 1:
        return GATEWAY
    return USED if address in used else FREE


def _coloured(mark: str) -> str:
    return click.style(mark, fg=_COLOURS[mark], bold=True) if mark in _COLOURS else mark
