# SPDX-License-Identifier: Apache-2.0
"""What the kernel and Docker say there is, as values, to hold against the records."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

import msgspec

from dni_driver.core.mtu import Underlay
from dni_driver.core.options.bandwidth import Limits


def is_dni(driver: str) -> bool:
    """Tell whether a Docker driver is dni: `dni`, or the managed plugin `dni:TAG` of any repository."""
    return driver.rpartition("/")[2].partition(":")[0] == "dni"


class BridgeView(msgspec.Struct, frozen=True, kw_only=True):
    """A bridge as the kernel has it."""

    name: str
    up: bool
    mtu: int
    addresses: tuple[IPv4Interface | IPv6Interface, ...]


class LinkView(msgspec.Struct, frozen=True, kw_only=True):
    """A host end of a container link as the kernel has it; `bridge` is None where it hangs in the air.

    `limits` are those that work, in bits a second.
    """

    name: str
    up: bool
    mtu: int
    bridge: str | None
    limits: Limits = Limits()


class KernelView(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel holds of ours: bridges `d-*` that carry our alias, links `dni*`, and the firewall.

    `ifbs` are the names of the devices `dne*` that hold some links back. `firewall` lists what is missing or
    different there, in words; empty when it is as it should be. `peers` is the same for what it has to know of other
    agents, each fault with what it is about. `underlay` is the link that carries the agent IP, None where there is
    none.
    """

    bridges: tuple[BridgeView, ...] = ()
    links: tuple[LinkView, ...] = ()
    ifbs: tuple[str, ...] = ()
    firewall: tuple[str, ...] = ()
    peers: tuple[tuple[str, str], ...] = ()
    underlay: Underlay | None = None


class DockerEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A running container's place on a network, as Docker tells it, with those of its labels that are for dni."""

    id: str
    container: str
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    labels: dict[str, str] = {}


class DockerNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """A Docker network that uses dni as network driver, IPAM driver, or both.

    `addresses` are its gateways and auxiliary addresses; `subnets` the pools, as CIDR texts.
    """

    id: str
    name: str
    driver: str
    ipam_driver: str
    endpoints: tuple[DockerEndpoint, ...] = ()
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    subnets: tuple[str, ...] = ()


class DockerView(msgspec.Struct, frozen=True, kw_only=True):
    """What Docker says there is."""

    networks: tuple[DockerNetwork, ...] = ()

    def addresses(self) -> frozenset[IPv4Address | IPv6Address]:
        """Answer every address that Docker shows, of endpoints and of networks themselves."""
        return frozenset(
            address
            for network in self.networks
            for addresses in (network.addresses, *(endpoint.addresses for endpoint in network.endpoints))
            for address in addresses
        )
