# SPDX-License-Identifier: Apache-2.0
"""The parts of Docker's API answers that dni reads. Engines leave out fields, or write null or an empty text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_interface, ip_network
from typing import Any, TypeVar

import msgspec

from dni_driver.core.errors import Unavailable
from dni_driver.core.options.labels import ours
from dni_driver.core.overlays import Address
from dni_driver.core.views import DockerEndpoint, DockerNetwork

T = TypeVar("T")


class PoolConfig(msgspec.Struct, frozen=True):
    """One entry of a network's `IPAM.Config`: what its user typed, else what the IPAM driver answered."""

    subnet: str | None = msgspec.field(name="Subnet", default=None)
    gateway: str | None = msgspec.field(name="Gateway", default=None)
    auxiliary: dict[str, str] | None = msgspec.field(name="AuxiliaryAddresses", default=None)


class Ipam(msgspec.Struct, frozen=True):
    """A network's `IPAM`."""

    driver: str | None = msgspec.field(name="Driver", default=None)
    config: list[PoolConfig] | None = msgspec.field(name="Config", default=None)


class Attached(msgspec.Struct, frozen=True):
    """An entry of a network's `Containers`."""

    endpoint: str = msgspec.field(name="EndpointID", default="")
    name: str = msgspec.field(name="Name", default="")
    address: str | None = msgspec.field(name="IPv4Address", default=None)
    address6: str | None = msgspec.field(name="IPv6Address", default=None)


class Network(msgspec.Struct, frozen=True):
    """An entry of GET /networks, or GET /networks/ID, which has `Containers` too."""

    id: str = msgspec.field(name="Id")
    name: str = msgspec.field(name="Name")
    driver: str = msgspec.field(name="Driver", default="")
    ipam: Ipam | None = msgspec.field(name="IPAM", default=None)
    attached: dict[str, Attached] | None = msgspec.field(name="Containers", default=None)
    options: dict[str, str] | None = msgspec.field(name="Options", default=None)
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)

    @property
    def ipam_driver(self) -> str:
        """Answer the IPAM driver's name."""
        return (self.ipam and self.ipam.driver) or ""

    def pools(self) -> list[PoolConfig]:
        """Answer the pools."""
        return (self.ipam and self.ipam.config) or []

    def subnets(self) -> tuple[str, ...]:
        """Answer the pools' subnets without host bits."""
        return tuple(str(ip_network(pool.subnet, strict=False)) for pool in self.pools() if pool.subnet)


class Plugin(msgspec.Struct, frozen=True):
    """An entry of GET /plugins: a managed plugin."""

    name: str = msgspec.field(name="Name", default="")
    is_enabled: bool = msgspec.field(name="Enabled", default=False)


class Membership(msgspec.Struct, frozen=True):
    """A container's place on a network, in GET /containers/json."""

    network: str = msgspec.field(name="NetworkID", default="")
    endpoint: str = msgspec.field(name="EndpointID", default="")
    address: str | None = msgspec.field(name="IPAddress", default=None)
    address6: str | None = msgspec.field(name="GlobalIPv6Address", default=None)


class NetworkSettings(msgspec.Struct, frozen=True):
    """A container's networks by name."""

    networks: dict[str, Membership | None] | None = msgspec.field(name="Networks", default=None)


class Container(msgspec.Struct, frozen=True):
    """An entry of GET /containers/json."""

    names: list[str] | None = msgspec.field(name="Names", default=None)
    settings: NetworkSettings | None = msgspec.field(name="NetworkSettings", default=None)
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)

    def name(self) -> str:
        """Answer its own name: legacy links add others, with a path."""
        return min(
            (name.removeprefix("/") for name in self.names or []), key=lambda name: name.count("/"), default=""
        )

    def memberships(self) -> list[Membership]:
        """Answer its places on networks; a stopped container has none."""
        networks = (self.settings and self.settings.networks) or {}
        return [membership for membership in networks.values() if membership and membership.endpoint]


def convert(answer: Any, kind: type[T]) -> T:
    """Read an answer of dockerd; raise Unavailable where it is something else."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise Unavailable(f"dockerd answered something that dni cannot read: {error}") from None


def to_view(network: Network, containers: Iterable[Container]) -> DockerNetwork:
    """Join what a network says about its containers with what running containers say about themselves."""
    endpoints = {endpoint.id: endpoint for endpoint in _attached(network)}
    endpoints |= {endpoint.id: endpoint for endpoint in _members(network, containers)}
    own = [text for pool in network.pools() for text in (pool.gateway, *(pool.auxiliary or {}).values())]
    return DockerNetwork(
        id=network.id,
        name=network.name,
        driver=network.driver,
        ipam_driver=network.ipam_driver,
        endpoints=tuple(endpoints.values()),
        addresses=_addresses(*own),
        subnets=network.subnets(),
    )


def _attached(network: Network) -> Iterator[DockerEndpoint]:
    for one in (network.attached or {}).values():
        if one.endpoint:
            addresses = _addresses(one.address, one.address6)
            yield DockerEndpoint(id=one.endpoint, container=one.name, addresses=addresses)


def _members(network: Network, containers: Iterable[Container]) -> Iterator[DockerEndpoint]:
    for container in containers:
        for one in container.memberships():
            if one.network == network.id:
                yield DockerEndpoint(
                    id=one.endpoint,
                    container=container.name(),
                    addresses=_addresses(one.address, one.address6),
                    labels=ours(container.labels or {}),
                )


def _addresses(*texts: str | None) -> tuple[Address, ...]:
    """Read addresses, with or without a mask; leave out what engines write for none."""
    return tuple(ip_interface(text).ip for text in texts if text and text != "<nil>")
