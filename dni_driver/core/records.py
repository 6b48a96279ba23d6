# SPDX-License-Identifier: Apache-2.0
"""What the store keeps, as values: pools, addresses, networks, endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import msgspec

from dni_driver.core.cni_records import CniEndpointRecord, CniNetworkRecord
from dni_driver.core.hosting import Hosting
from dni_driver.core.local_subnets import LocalSubnet
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import Address, AgentSubnet, Family, Network, Overlay, family_of, gateway_of
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.ports import PortRecord

Interface = IPv4Interface | IPv6Interface

Held = AgentSubnet | LocalSubnet
"""What an agent has of an overlay: each has a Docker half."""

CREATION_SECONDS = 120.0
"""A pool asked for longer ago, and still without a network, belongs to a creation that was cut off."""


class AddressState(StrEnum):
    """Where an address stands between being handed out and being free again.

    claimed   answered to dockerd, no endpoint yet (or its endpoint is gone and the release is due)
    bound     an endpoint has it
    leaving   dockerd released it while an endpoint still had it: the collector decides
    reserved  a gateway or an auxiliary address of a network
    free      used before; the address freed longest ago is handed out first
    """

    CLAIMED = "claimed"
    BOUND = "bound"
    LEAVING = "leaving"
    RESERVED = "reserved"
    FREE = "free"


HELD = frozenset({AddressState.CLAIMED, AddressState.BOUND, AddressState.LEAVING})


class PoolRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that dockerd asked for: `OVERLAY/v4`, `OVERLAY/v6`, or `plain/SUBNET` for other drivers.

    `OVERLAY/mesos4` and `OVERLAY/mesos6` are the Mesos half, for dni-cni; Docker knows nothing of them.
    `trial`: its overlay was defined for a network that is not created yet, and goes again if that fails.
    """

    id: str
    family: Family
    overlay: str | None = None
    subnet: IPv4Network | IPv6Network | None = None
    ip_range: IPv4Network | IPv6Network | None = None
    uses: int = 0
    since: float = 0.0
    trial: bool = False

    @property
    def is_mesos(self) -> bool:
        """Tell whether it hands out the Mesos half."""
        return self.overlay is not None and self.id == mesos_pool_id(self.overlay, self.family)

    def is_wanted(self, now: float) -> bool:
        """Tell whether somebody has just asked for it; `now` in seconds since 1970, as `since` is."""
        return self.uses > 0 and self.is_recent(now)

    def is_recent(self, now: float) -> bool:
        """Tell whether a creation that asked for it can still be under way."""
        return abs(now - self.since) < CREATION_SECONDS


class AddressRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One address of a pool. `since` is when it came into its state, in seconds since 1970."""

    pool: str
    address: IPv4Address | IPv6Address
    state: AddressState
    endpoint: str | None = None
    network: str | None = None
    container: str | None = None
    since: float = 0.0
    cni_endpoint: str | None = None


class NetworkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A Docker network on this host, on one overlay. `name` is known once the agent has asked Docker."""

    id: str
    overlay: str
    options: NetworkOptions
    mtu: int
    gateway: IPv4Interface | None = None
    gateway6: IPv6Interface | None = None
    name: str | None = None
    since: float = 0.0

    @property
    def label(self) -> str:
        """Answer the name where it is known, else the short id: for messages."""
        return self.name or self.id[:12]

    @property
    def without_ipam(self) -> bool:
        """Tell whether dockerd asks no IPAM driver for its addresses: `--ipam-driver null`."""
        return self.options.overlay is not None

    def gateways(self) -> list[Interface]:
        """Answer the gateways Docker was told of."""
        return [gateway for gateway in (self.gateway, self.gateway6) if gateway is not None]


class EndpointRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A container's place on a network.

    `sandbox` is the path of its network namespace, set by Join and cleared by Leave; `ifname` the link's name
    inside, learned after libnetwork moved it.
    """

    id: str
    network: str
    mac: str
    address: IPv4Interface | None = None
    address6: IPv6Interface | None = None
    sandbox: str | None = None
    ifname: str | None = None
    since: float = 0.0
    options: EndpointOptions = EndpointOptions()

    def interfaces(self) -> list[Interface]:
        """Answer its addresses with their masks, IPv4 first."""
        return [address for address in (self.address, self.address6) if address is not None]


class ReservationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of an overlay, `first` to `last`, that a person keeps back from all who do not ask for them.

    `container` is the name of the one that the address, a single one then, is for.
    """

    overlay: str
    first: IPv4Address | IPv6Address
    last: IPv4Address | IPv6Address
    container: str | None = None
    since: float = 0.0

    @property
    def family(self) -> Family:
        """Answer 4 or 6."""
        return family_of(self.first)

    def __contains__(self, address: object) -> bool:
        """Tell whether an address is one of them."""
        return isinstance(address, type(self.first)) and int(self.first) <= int(address) <= int(self.last)

    def __str__(self) -> str:
        """Write it as a person does: `9.0.0.140`, or `9.0.0.200-9.0.0.220`."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the store holds at one moment (one read transaction).

    `agent` is the agent IP, once it is known; `vtep` this agent's, None where it is alone; `peers` the other agents.
    `leaving` are the overlays that are being removed, by name, and the agents that were told to.
    """

    overlays: list[Overlay]
    agent_subnets: list[AgentSubnet]
    pools: list[PoolRecord]
    addresses: list[AddressRecord]
    networks: list[NetworkRecord]
    endpoints: list[EndpointRecord]
    reservations: list[ReservationRecord] = []
    local_subnets: list[LocalSubnet] = []
    ports: list[PortRecord] = []
    cni_networks: list[CniNetworkRecord] = []
    cni_endpoints: list[CniEndpointRecord] = []
    agent: Address | None = None
    vtep: Vtep | None = None
    peers: list[Peer] = []
    hosting: Hosting = Hosting()
    leaving: dict[str, Address] = {}

    def halves(self, overlay: str, family: Family | None = None) -> list[Network]:
        """Answer the Docker halves this agent holds of an overlay, in the order they were leased."""
        return docker_halves([*self.agent_subnets, *self.local_subnets], overlay, family)

    def mesos_halves(self, overlay: str, family: Family | None = None) -> list[Network]:
        """Answer the Mesos halves likewise."""
        return mesos_halves(self.agent_subnets, overlay, family)

    def halves_of(self, pool: PoolRecord) -> list[Network]:
        """Answer the halves that a pool hands out; none of a plain pool."""
        if pool.overlay is None:
            return []
        return (self.mesos_halves if pool.is_mesos else self.halves)(pool.overlay, pool.family)


def docker_halves(held: Iterable[Held], overlay: str, family: Family | None = None) -> list[Network]:
    """Answer the Docker halves of an overlay among what an agent holds, in that order."""
    return [one.docker_half for one in held if one.overlay == overlay and family in (None, one.family)]


def mesos_halves(held: Iterable[AgentSubnet], overlay: str, family: Family | None = None) -> list[Network]:
    """Answer the Mesos halves of an overlay among an agent's subnets, in that order."""
    return [one.mesos_half for one in held if one.overlay == overlay and family in (None, one.family)]


def gateway_for(address: Address, network: NetworkRecord, halves: Iterable[Network]) -> Address | None:
    """Answer the gateway of the half an address lies in: the user's `--gateway` where it lies there too."""
    for half in halves:
        if address.version == half.version and address in half:
            return bridge_address(half, network).ip
    return None


def bridge_address(half: Network, network: NetworkRecord) -> Interface:
    """Answer the address `d-NAME` carries for one half: the gateway, with the half's mask."""
    for gateway in network.gateways():
        if gateway.version == half.version and gateway.ip in half:
            return with_mask(gateway.ip, half)
    return with_mask(gateway_of(half), half)


def with_mask(address: Address, half: Network) -> Interface:
    """Answer an address with the mask of the half (or plain subnet) it lies in."""
    if isinstance(address, IPv4Address):
        return IPv4Interface((address, half.prefixlen))
    return IPv6Interface((address, half.prefixlen))


def pool_id(overlay: str, family: Family) -> str:
    """Answer the pool id of an overlay's family, the same for ever."""
    return f"{overlay}/v{family}"


def mesos_pool_id(overlay: str, family: Family) -> str:
    """Answer the pool id of an overlay's Mesos half."""
    return f"{overlay}/mesos{family}"


def plain_pool_id(subnet: Network) -> str:
    """Answer the pool id of a plain pool."""
    return f"plain/{subnet}"


def overlay_of_half(subnet: Network, held: Iterable[Held]) -> str | None:
    """Answer which overlay has this Docker half on this agent."""
    return next(
        (one.overlay for one in held if one.family == family_of(subnet) and one.docker_half == subnet),
        None,
    )
