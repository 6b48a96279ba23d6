# SPDX-License-Identifier: Apache-2.0
"""What the kernel should look like, worked out from the records alone: the kernel is derived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

import msgspec

from dni_driver.core.cni_records import CniEndpointRecord, CniNetworkRecord
from dni_driver.core.names import container_link, docker_bridge, host_link, mesos_bridge
from dni_driver.core.options.bandwidth import Limits, effective
from dni_driver.core.options.network import DEFAULT_LINK_PREFIX, NetworkOptions
from dni_driver.core.overlays import FAMILIES, VTEP_SUBNET, Address, Network, Overlay, gateway_of
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.ports import Published, Relayed
from dni_driver.core.published import Confined, ways
from dni_driver.core.records import (
    EndpointRecord,
    NetworkRecord,
    Records,
    bridge_address,
    gateway_for,
    with_mask,
)


class Bridge(msgspec.Struct, frozen=True, kw_only=True):
    """One `d-NAME` or `m-NAME`: its addresses (a gateway for each half) and its MTU in bytes.

    `shared`: a CNI plugin may have made it, and have containers on it that dni knows nothing of.
    """

    name: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    mtu: int
    shared: bool = False


class Route(msgspec.Struct, frozen=True):
    """A route of a container: to a subnet, by the address of a gateway."""

    subnet: IPv4Network | IPv6Network
    gateway: str


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One container's veth pair.

    `host` is the end on `bridge`; `container` the name of the other end until libnetwork moves it into
    `sandbox` (a path) and renames it to `ifname`, where both are known: `prefix` and a number. The rest is what the
    container's end carries inside, for a link that has to be made anew, and the limits it is held to. `spoof`: what
    it sends is not checked.
    """

    endpoint: str
    host: str
    container: str
    bridge: str
    mtu: int
    mac: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    gateways: tuple[str, ...]
    limits: Limits = Limits()
    routes: tuple[Route, ...] = ()
    sandbox: str | None = None
    ifname: str | None = None
    prefix: str = DEFAULT_LINK_PREFIX
    spoof: bool = False

    @property
    def next_hops(self) -> set[str]:
        """Answer the addresses of its bridge that lead on from there."""
        return {*self.gateways, *(route.gateway for route in self.routes)}


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Who may talk to an overlay's containers on this host, and whether they leave under this host's name.

    `bridges` are those that others are kept from; `admitted` carry containers that are let in to theirs and answered,
    and whom somebody else keeps others from. `local` are subnets that its containers have on this host alone, and
    always leave under this host's name from.
    """

    overlay: str
    bridges: tuple[str, ...]
    subnets: tuple[IPv4Network | IPv6Network, ...]
    masquerade: bool
    isolated: bool
    internal: bool
    local: tuple[IPv4Network, ...] = ()
    admitted: tuple[str, ...] = ()

    def families(self) -> set[int]:
        """Answer which families its containers speak (4, 6)."""
        return {subnet.version for subnet in (*self.subnets, *self.local)}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of it. `overlay_subnets` are all overlays', with or without a network on this host.

    `agent` is the agent IP, None before it is known; `guarded`: some links or all are to be checked for what they
    send. `relayed` are ports with callers that a program carries to containers. `vtep` is this agent's, None where
    it is alone; `overlays` say how packets travel to `peers`, whose VTEPs are of `vtep_subnet`. `hosted`: the
    VTEP and the ways to other hosts are somebody else's.
    """

    bridges: tuple[Bridge, ...] = ()
    links: tuple[Link, ...] = ()
    policies: tuple[Policy, ...] = ()
    overlay_subnets: tuple[IPv4Network | IPv6Network, ...] = ()
    agent: Address | None = None
    guarded: bool = False
    ports: tuple[Published, ...] = ()
    relayed: tuple[Relayed, ...] = ()
    vtep: Vtep | None = None
    overlays: tuple[Overlay, ...] = ()
    peers: Sequence[Peer] = []
    vtep_subnet: IPv4Network = VTEP_SUBNET
    hosted: bool = False

    def confined(self) -> Confined:
        """Answer where callers come from who must reach no other network, by no published port either."""
        shut = [policy for policy in self.policies if policy.internal]
        return Confined(
            frozenset(bridge for policy in shut for bridge in policy.bridges),
            tuple(subnet for policy in shut for subnet in policy.subnets),
        )


def wanted(records: Records) -> Wanted:
    """Work out the kernel state that the records call for."""
    networks = {network.id: network for network in records.networks}
    overlays = {overlay.name: overlay for overlay in records.overlays}
    links = tuple(
        _link(endpoint, networks[endpoint.network], records, overlays)
        for endpoint in records.endpoints
        if endpoint.sandbox is not None and endpoint.network in networks
    )
    links += tuple(_cni_links(records, overlays))
    bridges = tuple(bridge_of(network, records) for network in records.networks)
    led, carried = ways(records)
    return Wanted(
        bridges=bridges + tuple(mesos_bridge_of(network, records) for network in records.cni_networks),
        links=links,
        policies=tuple(_policies(records, overlays)),
        overlay_subnets=tuple(_all_subnets(records.overlays)),
        agent=records.agent,
        guarded=any(not network.options.spoof for network in records.networks)
        or bool(records.cni_networks)
        or any(not link.spoof for link in links),
        ports=led,
        relayed=carried,
        vtep=None if records.hosting.carries else records.vtep,
        overlays=tuple(records.overlays),
        peers=[] if records.hosting.carries else records.peers,
        vtep_subnet=records.vtep.ip.network if records.vtep else VTEP_SUBNET,
        hosted=records.hosting.carries,
    )


def _link(
    endpoint: EndpointRecord, network: NetworkRecord, records: Records, overlays: Mapping[str, Overlay]
) -> Link:
    return link_of(endpoint, network, records.halves(network.overlay), _subnets(network, overlays))


def bridge_of(network: NetworkRecord, records: Records) -> Bridge:
    """Answer the bridge of a network."""
    halves = [half for family in FAMILIES for half in records.halves(network.overlay, family)]
    return Bridge(
        name=docker_bridge(network.overlay),
        addresses=tuple(bridge_address(half, network) for half in halves if _speaks(network, half.version)),
        mtu=network.mtu,
    )


def mesos_bridge_of(network: CniNetworkRecord, records: Records) -> Bridge:
    """Answer the bridge of a Mesos half."""
    halves = [half for family in FAMILIES for half in records.mesos_halves(network.overlay, family)]
    return Bridge(
        name=mesos_bridge(network.overlay),
        addresses=tuple(with_mask(gateway_of(half), half) for half in halves),
        mtu=network.mtu,
        shared=True,
    )


def _cni_links(records: Records, overlays: Mapping[str, Overlay]) -> Iterable[Link]:
    networks = {network.overlay: network for network in records.cni_networks}
    for endpoint in records.cni_endpoints:
        overlay = overlays[endpoint.overlay]
        halves = records.mesos_halves(overlay.name)
        yield cni_link_of(endpoint, networks[overlay.name], halves, overlay, cni_options(records, overlay.name))


def cni_options(records: Records, overlay: str) -> NetworkOptions:
    """Answer what holds for the Mesos half: what was said of the overlay's Docker network, where there is one."""
    return next((network.options for network in records.networks if network.overlay == overlay), NetworkOptions())


def cni_link_of(
    endpoint: CniEndpointRecord,
    network: CniNetworkRecord,
    halves: Sequence[Network],
    overlay: Overlay,
    options: NetworkOptions,
) -> Link:
    """Answer the link of a container of dni-cni; `halves` are the Mesos halves of its overlay on this agent."""
    addresses = endpoint.interfaces()
    own = [gateway_of(half) for address in addresses for half in halves if address.ip in half]
    ways = [(subnet, gateway) for gateway in own for subnet in overlay.subnets() if subnet.version == gateway.version]
    return Link(
        endpoint=endpoint.id,
        host=host_link(endpoint.id),
        container=container_link(endpoint.id),
        bridge=mesos_bridge(overlay.name),
        mtu=network.mtu,
        mac=endpoint.mac,
        addresses=tuple(addresses),
        gateways=() if options.internal else tuple(map(str, own)),
        limits=cni_limits_of(endpoint),
        routes=tuple(Route(subnet, str(gateway)) for subnet, gateway in ways),
        sandbox=endpoint.sandbox,
        ifname=endpoint.ifname,
    )


def link_of(
    endpoint: EndpointRecord, network: NetworkRecord, halves: Sequence[Network], subnets: Sequence[Network]
) -> Link:
    """Answer the link of an endpoint; `halves` are the Docker halves of its overlay on this agent."""
    return Link(
        endpoint=endpoint.id,
        host=host_link(endpoint.id),
        container=container_link(endpoint.id),
        bridge=docker_bridge(network.overlay),
        mtu=network.mtu,
        mac=endpoint.mac,
        addresses=tuple(endpoint.interfaces()),
        gateways=tuple(str(gateway) for gateway in gateways_of(endpoint, network, halves)),
        limits=limits_of(endpoint, network),
        routes=tuple(_routes(endpoint, network, halves, subnets)),
        sandbox=endpoint.sandbox,
        ifname=endpoint.ifname,
        prefix=network.options.link_prefix,
        spoof=network.options.spoof if endpoint.options.spoof is None else endpoint.options.spoof,
    )


def limits_of(endpoint: EndpointRecord, network: NetworkRecord) -> Limits:
    """Answer the limits that hold for an endpoint: its own, and its network's where it has none."""
    return Limits(
        egress=effective(endpoint.options.egress, network.options.egress),
        ingress=effective(endpoint.options.ingress, network.options.ingress),
    )


def cni_limits_of(endpoint: CniEndpointRecord) -> Limits:
    """Answer the limits of a container of dni-cni: its own."""
    return Limits(egress=effective(endpoint.options.egress, None), ingress=effective(endpoint.options.ingress, None))


def gateways_of(endpoint: EndpointRecord, network: NetworkRecord, halves: Sequence[Network]) -> list[Address]:
    """Answer the default gateways of an endpoint, IPv4 first; none on an internal network."""
    if network.options.internal:
        return []
    found = [gateway_for(interface.ip, network, halves) for interface in endpoint.interfaces()]
    return [gateway for gateway in found if gateway is not None]


def _routes(
    endpoint: EndpointRecord, network: NetworkRecord, halves: Sequence[Network], subnets: Iterable[Network]
) -> Iterable[Route]:
    """Answer the routes to the whole of the overlay: whatever network the default route leads to, and if to none."""
    for interface in endpoint.interfaces():
        gateway = gateway_for(interface.ip, network, halves)
        if gateway is not None:
            yield from (Route(subnet, str(gateway)) for subnet in subnets if subnet.version == gateway.version)


def _speaks(network: NetworkRecord, version: int) -> bool:
    return any(gateway.version == version for gateway in network.gateways())


def _subnets(network: NetworkRecord, overlays: Mapping[str, Overlay]) -> list[Network]:
    overlay = overlays.get(network.overlay)
    return overlay.subnets() if overlay else []


def _policies(records: Records, overlays: Mapping[str, Overlay]) -> Iterable[Policy]:
    """Answer a policy for each overlay with a Docker network, and the same for one with a Mesos half alone."""
    for network in records.networks:
        yield _policy(network, overlays, records)
    for overlay in {network.overlay: None for network in records.cni_networks}:
        if all(network.overlay != overlay for network in records.networks):
            yield _policy(NetworkRecord(id="", overlay=overlay, options=NetworkOptions(), mtu=0), overlays, records)


def _policy(network: NetworkRecord, overlays: Mapping[str, Overlay], records: Records) -> Policy:
    docker, mesos = docker_bridge(network.overlay), mesos_bridge(network.overlay)
    is_left = records.hosting.carries
    return Policy(
        overlay=network.overlay,
        bridges=(docker,) if is_left else (docker, mesos),
        admitted=(mesos,) if is_left else (),
        subnets=tuple(_subnets(network, overlays)),
        masquerade=network.options.masquerade and network.overlay not in records.hosting.masqueraded,
        isolated=network.options.isolated,
        internal=network.options.internal,
        local=tuple(
            one.subnet for one in records.local_subnets if one.overlay == network.overlay and network.gateway
        ),
    )


def _all_subnets(overlays: Iterable[Overlay]) -> Iterable[IPv4Network | IPv6Network]:
    return [subnet for overlay in overlays for subnet in overlay.subnets()]
