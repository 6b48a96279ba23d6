# SPDX-License-Identifier: Apache-2.0
"""Where published ports lead: what the kernel can do by itself, and what takes a program that carries it over.

The kernel leads callers of one family to containers of the same, unless they call from this host's ::1 or from a
link-local address. The others are met by a socket that listens at the port.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from dni_driver.core.names import docker_bridge
from dni_driver.core.ports import HostPort, Published, Relayed, is_loopback6
from dni_driver.core.records import Records


class Confined(msgspec.Struct, frozen=True):
    """Where callers come from who are kept to their own network: bridges, and subnets."""

    bridges: frozenset[str]
    subnets: tuple[IPv4Network | IPv6Network, ...]


class _Place(msgspec.Struct, frozen=True):
    """Where an endpoint is: its bridge, and its addresses by family; and the sandbox, which may be elsewhere too."""

    bridge: str
    ips: dict[int, IPv4Address | IPv6Address]
    sandbox: str


_Way = tuple[_Place, int]
"""A place that a port leads to, and the port there."""


def ways(records: Records) -> tuple[tuple[Published, ...], tuple[Relayed, ...]]:
    """Answer what the kernel leads to endpoints in their sandboxes, each port once, and what is carried there.

    An internal network publishes nothing.
    """
    led: list[Published] = []
    carried: list[Relayed] = []
    places = _places(records)
    bridges = _bridges_by_sandbox(places.values())
    for at, found in _ways(records, places).items():
        version = at.ip.version
        native = next(((place, port) for place, port in found if version in place.ips), None)
        if native is not None and not is_loopback6(at.ip):
            place, port = native
            beside = tuple(name for name in bridges[place.sandbox, version] if name != place.bridge)
            led.append(Published(at=at, target=place.ips[version], port=port, bridge=place.bridge, beside=beside))
        if version == 6 and (native is None or at.ip.is_unspecified or is_loopback6(at.ip)):  # noqa: PLR2004
            carried.append(_relayed(at, found))
    return tuple(led), tuple(carried)


def _relayed(at: HostPort, found: Sequence[_Way]) -> Relayed:
    """Answer how callers are carried: first by IPv6, as others of the same port get there."""
    targets = [place.ips[version] for version in (6, 4) for place, _ in found if version in place.ips]
    return Relayed(at=at, targets=tuple(targets), port=found[0][1])


def _bridges_by_sandbox(places: Iterable[_Place]) -> Mapping[tuple[str, int], list[str]]:
    """Answer the bridges that sandboxes are on, by family."""
    found: dict[tuple[str, int], list[str]] = {}
    for place in places:
        for version in place.ips:
            found.setdefault((place.sandbox, version), []).append(place.bridge)
    return found


def _ways(records: Records, places: Mapping[str, _Place]) -> Mapping[HostPort, list[_Way]]:
    found: dict[HostPort, list[_Way]] = {}
    for record in records.ports:
        place = places.get(record.endpoint)
        if place is not None:
            found.setdefault(record.at, []).append((place, record.port))
    return found


def _places(records: Records) -> Mapping[str, _Place]:
    bridges = {one.id: docker_bridge(one.overlay) for one in records.networks if not one.options.internal}
    return {
        one.id: _Place(bridges[one.network], {each.version: each.ip for each in one.interfaces()}, one.sandbox)
        for one in records.endpoints
        if one.sandbox is not None and one.network in bridges
    }
