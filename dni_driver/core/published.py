# SPDX-License-Identifier: Apache-2.0
"""Where published ports lead: what the kernel can do by itself, and what takes a program that carries it over.

The kernel leads callers of one family to containers of the same, unless they call from this host's ::1 or from a
link-local address. The others are met by a socket that listens at the port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network

import msgspec

from dni_driver.core.names import docker_bridge
from dni_driver.core.overlays import Address
from dni_driver.core.ports import HostPort, PortRecord, Published, Relayed, is_loopback6
from dni_driver.core.records import EndpointRecord, NetworkRecord, Records


class Confined(msgspec.Struct, frozen=True):
    """Where callers come from who are kept to their own network: bridges, and subnets."""

    bridges: frozenset[str]
    subnets: tuple[IPv4Network | IPv6Network, ...]


class _Way(msgspec.Struct, frozen=True):
    """One endpoint that a port leads to."""

    endpoint: EndpointRecord
    bridge: str
    port: int


def published(records: Records) -> Iterator[Published]:
    """Answer what the kernel leads to endpoints in their sandboxes, each port once; an internal network has none."""
    for at, ways in _ways(records).items():
        for way, target in _of_the_same_family(at, ways):
            if not is_loopback6(at.ip):
                yield Published(at=at, target=target, port=way.port, bridge=way.bridge)


def relayed(records: Records) -> Iterator[Relayed]:
    """Answer the ports that callers are carried over from; first to where other callers of them get."""
    for at, ways in _ways(records).items():
        native = [target for _, target in _of_the_same_family(at, ways)]
        if at.family == 6 and (not native or at.ip.is_unspecified or is_loopback6(at.ip)):  # noqa: PLR2004
            others = [one.ip for way in ways for one in way.endpoint.interfaces() if one.ip not in native]
            yield Relayed(at=at, targets=(*native, *others), port=ways[0].port)


def _of_the_same_family(at: HostPort, ways: Sequence[_Way]) -> list[tuple[_Way, Address]]:
    """Answer the first way that the kernel can take, and where to; none where there is no such."""
    found = [(way, one.ip) for way in ways for one in way.endpoint.interfaces() if one.version == at.family]
    return found[:1]


def _ways(records: Records) -> Mapping[HostPort, list[_Way]]:
    networks = {network.id: network for network in records.networks if not network.options.internal}
    joined = {one.id: one for one in records.endpoints if one.sandbox is not None and one.network in networks}
    found: dict[HostPort, list[_Way]] = {}
    for record in records.ports:
        if record.endpoint in joined:
            found.setdefault(record.at, []).append(_way(record, joined, networks))
    return found


def _way(record: PortRecord, joined: Mapping[str, EndpointRecord], networks: Mapping[str, NetworkRecord]) -> _Way:
    endpoint = joined[record.endpoint]
    return _Way(endpoint, docker_bridge(networks[endpoint.network].overlay), record.port)
