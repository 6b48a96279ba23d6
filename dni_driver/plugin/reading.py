# SPDX-License-Identifier: Apache-2.0
"""From what dockerd sent to what dni means: options, pools, endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from dni_driver.core.errors import InUse, MalformedRequest, Refused
from dni_driver.core.mac import mac_for, parse_mac
from dni_driver.core.options.endpoint import parse_endpoint_options
from dni_driver.core.options.network import NetworkOptions, parse_options
from dni_driver.core.overlays import FAMILIES, Address, Family, Overlay, family_of
from dni_driver.core.ports import Binding, binding
from dni_driver.core.records import EndpointRecord, Held, Interface, NetworkRecord, PoolRecord, overlay_of_half
from dni_driver.plugin import wire

CREATE = "docker network create -d dni --ipam-driver dni"

_OUR_SPACES = {wire.LOCAL_SPACE, wire.GLOBAL_SPACE, ""}
"""A client may leave the address space out; dockerd never does."""


def network_options(options: Mapping[str, Any] | None) -> NetworkOptions:
    """Read the Options of CreateNetwork and GwAllocCheck."""
    given = options or {}
    generic = given.get(wire.GENERIC) or {}
    if not isinstance(generic, Mapping) or not all(isinstance(value, str) for value in generic.values()):
        raise MalformedRequest(f"{wire.GENERIC} must be a map of texts")
    internal = given.get(wire.INTERNAL, False)
    if not isinstance(internal, bool):
        raise MalformedRequest(f"{wire.INTERNAL} must be true or false")
    return parse_options(generic, internal=internal)


def told_pools(request: wire.CreateNetworkRequest) -> list[wire.IPAMData]:
    """Answer the pools of both families, IPv4 first."""
    return [*(request.ipv4_data or []), *(request.ipv6_data or [])]


def overlay_meant(told: Sequence[wire.IPAMData], held: Sequence[Held], in_use: Iterable[PoolRecord]) -> str:
    """Answer the overlay whose Docker halves the pools of a new network are.

    Raises Refused with the command that would work: for another IPAM driver's pools, for plain pools, for
    pools of two overlays, and for two of one family.
    """
    if not told:
        raise Refused(f"a dni network needs addresses: use `{CREATE} NAME`")
    asked = {(pool.overlay, pool.family) for pool in in_use if pool.uses}
    plain = {str(pool.subnet) for pool in in_use if pool.uses and pool.subnet}
    for data in told:
        if data.address_space not in _OUR_SPACES:
            raise _not_ours(data.pool)
    found = [_overlay_of(data.pool, held, asked, plain) for data in told]
    if len(set(found)) > 1:
        raise Refused(
            f"one network is on one overlay, not on {' and '.join(sorted(set(found)))}: say which, with "
            f"--ipam-opt overlay=NAME"
        )
    families = [wire.read_network(data.pool, "pool").version for data in told]
    if len(set(families)) < len(families):
        raise Refused("give one --subnet of a family: an overlay's Docker half is one pool")
    return found[0]


def check_families(told: Sequence[wire.IPAMData], overlay: Overlay, asked: Iterable[PoolRecord], now: float) -> None:
    """Raise Refused for IPv4 alone where an overlay is IPv6 only, InUse where another network asks for it too."""
    families = {wire.read_network(data.pool, "pool").version for data in told}
    if not any(overlay.space(family) for family in FAMILIES if family in families):
        raise Refused(
            f"overlay {overlay.name!r} is IPv6 only: add --ipv6, and from Docker 28 on --ipv4=false if you want no "
            f"IPv4 at all"
        )
    if any(pool.overlay == overlay.name and pool.is_wanted(now) and pool.family not in families for pool in asked):
        raise InUse(
            f"another Docker network is being created on overlay {overlay.name!r}: if it is not yours, name your "
            f"overlay with --ipam-opt overlay=NAME, else try again in two minutes"
        )


def _overlay_of(text: str, held: Sequence[Held], asked: set[tuple[str | None, Family]], plain: set[str]) -> str:
    subnet = wire.read_network(text, "pool")
    overlay = overlay_of_half(subnet, held)
    if overlay is not None and (overlay, family_of(subnet)) in asked:
        return overlay
    if str(subnet) in plain:
        raise Refused(
            f"subnet {subnet} belongs to no overlay, and -d dni needs one: to define it, use "
            f"`{CREATE} --subnet {subnet} --ipam-opt overlay=NAME NAME`; without --subnet the network is on the "
            f"default overlay; Compose, which passes no --ipam-opt on, needs `dni overlay create NAME --subnet "
            f"{subnet} --no-network` first"
        )
    raise _not_ours(text)


def _not_ours(subnet: str) -> Refused:
    return Refused(
        f"-d dni needs --ipam-driver dni too: use `{CREATE} NAME` (in a Compose file `ipam: {{driver: dni}}`); "
        f"{subnet} is not from dni's IPAM driver"
    )


def gateways(told: Iterable[wire.IPAMData]) -> tuple[IPv4Interface | None, IPv6Interface | None]:
    """Answer the gateways of a new network, IPv4 and IPv6."""
    return by_family([wire.read_interface(data.gateway, "gateway") for data in told if data.gateway])


def own_addresses(told: Iterable[wire.IPAMData]) -> Iterator[Address]:
    """Answer what a network keeps for itself: its gateways and auxiliary addresses."""
    for data in told:
        for text in (data.gateway, *(data.aux_addresses or {}).values()):
            # Engines write <nil> for an auxiliary address outside --ip-range.
            if text and text != "<nil>":
                yield wire.read_interface(text, "gateway or auxiliary address").ip


def endpoint(request: wire.CreateEndpointRequest, given: wire.EndpointInterface, now: float) -> EndpointRecord:
    """Read a new endpoint; its MAC follows from its address where dockerd brings none."""
    texts = [text for text in (given.address, given.address_ipv6) if text]
    if not texts:
        raise Refused(
            f"an endpoint on dni needs an address from its IPAM driver: use `{CREATE} NAME`; where the network is "
            f"IPv6 only, leave IPv6 switched on in the container"
        )
    interfaces = [wire.read_interface(text, "address") for text in texts]
    address, address6 = by_family(interfaces)
    mac = parse_mac(given.mac_address) if given.mac_address else mac_for(interfaces[0].ip)
    return EndpointRecord(
        id=request.endpoint_id,
        network=request.network_id,
        mac=mac,
        address=address,
        address6=address6,
        since=now,
        options=parse_endpoint_options(request.options or {}),
    )


def bindings(request: wire.ProgramExternalConnectivityRequest) -> list[Binding]:
    """Read which ports a container publishes; raise MalformedRequest, or Refused for what cannot be published."""
    return [
        binding(
            one.proto,
            one.port,
            wire.read_address(one.host_ip, "host address of a port") if one.host_ip else None,
            one.host_port,
            one.host_port_end,
        )
        for one in wire.read_port_map(request.options)
    ]


def check_asked(endpoint: EndpointRecord, network: NetworkRecord) -> None:
    """Refuse an address asked for by driver-opt that is not the one IPAM gave: dockerd lets nobody change that."""
    given = {interface.version: interface.ip for interface in endpoint.interfaces()}
    for asked in endpoint.options.asked():
        if given.get(asked.version) != asked:
            key, flag = ("address", "--ip") if asked.version == 4 else ("address6", "--ip6")  # noqa: PLR2004
            raise Refused(
                f"dni.{key}={asked} comes too late on this network: Docker asks for addresses first, and had "
                f"{given.get(asked.version, 'none')}; say {flag} {asked} (for networks created with --subnet), or "
                f"use a network created with `docker network create -d dni --ipam-driver null "
                f"-o overlay={network.overlay} NAME`"
            )


def added(given: wire.EndpointInterface, endpoint: EndpointRecord) -> wire.NewInterface | None:
    """Answer what an endpoint has that dockerd did not bring: a field that it brought must not come back."""
    new = wire.NewInterface(
        address=str(endpoint.address or "") if not given.address else "",
        address_ipv6=str(endpoint.address6 or "") if not given.address_ipv6 else "",
        mac_address="" if given.mac_address else endpoint.mac,
    )
    return new if new != wire.NewInterface() else None


def by_family(interfaces: Iterable[Interface]) -> tuple[IPv4Interface | None, IPv6Interface | None]:
    """Sort at most one interface of each family into its place."""
    found4: IPv4Interface | None = None
    found6: IPv6Interface | None = None
    for interface in interfaces:
        if isinstance(interface, IPv4Interface):
            found4 = interface
        else:
            found6 = interface
    return found4, found6
