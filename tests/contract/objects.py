# SPDX-License-Identifier: Apache-2.0
"""Docker's networks, endpoints and containers, and how libnetwork writes them on the wire."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from tests.contract import answers

EXPOSED = "com.docker.network.endpoint.exposedports"
PUBLISHED = "com.docker.network.portmap"
MAC = "com.docker.network.endpoint.macaddress"


@dataclass
class Pool:
    """One of a network's subnets; `gateway` and `aux` are CIDR texts."""

    id: str
    subnet: answers.Network
    gateway: str = ""
    aux: dict[str, str] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """Answer what the network driver is told of it: what is not there is left out."""
        data = {
            "AddressSpace": "null" if self.id == "null" else "dni-local",
            "Pool": str(self.subnet),
            "Gateway": self.gateway,
            "AuxAddresses": self.aux,
        }
        return {key: value for key, value in data.items() if value}


@dataclass
class Network:
    """A Docker network."""

    id: str
    name: str
    driver: str
    ipam: str
    internal: bool
    pools: list[Pool]


@dataclass
class Endpoint:
    """A container's place on a network; `wired` as long as it is joined."""

    id: str
    network: Network
    addresses: dict[int, answers.Interface]
    mac: str = ""
    link: str = ""
    gateways: dict[int, str] = field(default_factory=dict)
    routes: dict[str, str] = field(default_factory=dict)


@dataclass
class Container:
    """A container: the networks it is to be on, and its endpoints while it runs.

    A wish for a network holds `ip`, `ip6` and `mac`, which may be empty, and driver-opts.
    """

    name: str
    wishes: dict[str, dict[str, str]]
    ports: list[int]
    sandbox: str = ""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    way_out: Endpoint | None = None


def ids(endpoint: Endpoint) -> dict[str, str]:
    """Write which endpoint is meant."""
    return {"NetworkID": endpoint.network.id, "EndpointID": endpoint.id}


def ports(container: Container) -> dict[str, Any]:
    """Write a container's ports, exposed and published under the same number."""
    exposed = [{"Proto": 6, "Port": port} for port in container.ports]
    published = [
        {**each, "IP": "", "HostIP": "", "HostPort": each["Port"], "HostPortEnd": each["Port"]} for each in exposed
    ]
    return {EXPOSED: exposed, PUBLISHED: published}


def creation(network: Network, options: Mapping[str, object]) -> dict[str, Any]:
    """Write a CreateNetwork."""
    data: dict[int, list[dict[str, Any]]] = {4: [], 6: []}
    for pool in network.pools:
        data[pool.subnet.version].append(pool.told())
    return {"NetworkID": network.id, "Options": options, "IPv4Data": data[4], "IPv6Data": data[6]}


def pool_of_dockers_own(ipam: str, subnet: str, family: int) -> Pool:
    """Answer what the built-in IPAM drivers, `default` and `null`, answer."""
    if ipam == "null":
        return Pool("null", ip_network("::/0" if family == 6 else "0.0.0.0/0"))
    chosen = ip_network(subnet or "172.18.0.0/16")
    return Pool("default", chosen, f"{chosen.network_address + 1}/{chosen.prefixlen}")


def family_of(text: str) -> int:
    """Answer 4 or 6, for a text with an address or subnet in it."""
    return 6 if ":" in text else 4


def overlap(one: answers.Network, other: answers.Network) -> bool:
    """Tell whether two subnets share addresses."""
    return one.version == other.version and one.overlaps(other)


def endpoint_options(container: Container, wish: Mapping[str, str]) -> dict[str, Any]:
    """Write the options of a CreateEndpoint: driver-opts flat; Go writes the bytes of a MAC in base64."""
    packed = base64.b64encode(bytes.fromhex(wish["mac"].replace(":", ""))).decode()
    driver_opts = {key: value for key, value in wish.items() if key not in ("ip", "ip6", "mac")}
    return {**ports(container), **driver_opts, **({MAC: packed} if wish["mac"] else {})}
