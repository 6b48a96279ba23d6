# SPDX-License-Identifier: Apache-2.0
"""The requests and responses of libnetwork's remote protocol, each declared once, by the names Go sends.

Maps and lists may come as null, fields may be missing, unknown fields are ignored: newer engines add some.
Types are checked here, meanings (is it an address?) by the `read_` functions; both raise MalformedRequest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, TypeVar

import msgspec

from dni_driver.core.errors import EmptyBody, MalformedRequest
from dni_driver.core.overlays import Address, Network

GENERIC = "com.docker.network.generic"
INTERNAL = "com.docker.network.internal"
PORT_MAP = "com.docker.network.portmap"
LOCAL_SPACE, GLOBAL_SPACE = "dni-local", "dni-global"
"""The address spaces of our IPAM driver: a network's pools come with the name of theirs."""
ADDRESS_TYPE = "RequestAddressType"
GATEWAY_TYPE = "com.docker.network.gateway"
ENDPOINT_NAME = "com.docker.network.endpoint.name"
"""The container's name, in RequestAddress; 29.0 and later."""

_IDS = {
    "network_id": (re.compile(r"[0-9A-Za-z]{1,128}"), "1 to 128 letters and digits"),
    "endpoint_id": (re.compile(r"[0-9a-f]{11,128}"), "11 to 128 hex digits"),
}
"""dockerd's ids have 64 hex digits, swarm's network ids 25 base-36 ones; links are named after endpoint ids."""

_LONGEST_PATH = 4095
"""PATH_MAX, less its closing NUL."""


class Request(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """The base of every request: Go's names are ours in PascalCase."""


class IPAMData(Request, frozen=True):
    """One `--subnet` of a network, as `driverapi.IPAMData` marshals it. Addresses are CIDR texts."""

    address_space: str = ""
    pool: str = ""
    gateway: str = ""
    aux_addresses: dict[str, str] | None = None


class NetworkRequest(Request, frozen=True):
    """DeleteNetwork, FreeNetwork."""

    network_id: str = msgspec.field(name="NetworkID")


class CreateNetworkRequest(NetworkRequest, frozen=True):
    """CreateNetwork. `options` holds `com.docker.network.generic` (the user's -o) and dockerd's own keys."""

    options: dict[str, Any] | None = None
    ipv4_data: list[IPAMData] | None = msgspec.field(default=None, name="IPv4Data")
    ipv6_data: list[IPAMData] | None = msgspec.field(default=None, name="IPv6Data")


class AllocateNetworkRequest(NetworkRequest, frozen=True):
    """AllocateNetwork (swarm managers only)."""

    options: dict[str, str] | None = None
    ipv4_data: list[IPAMData] | None = msgspec.field(default=None, name="IPv4Data")
    ipv6_data: list[IPAMData] | None = msgspec.field(default=None, name="IPv6Data")


class GwAllocCheckRequest(Request, frozen=True):
    """GwAllocCheck (28.0 and later)."""

    options: dict[str, Any] | None = None


class EndpointInterface(Request, frozen=True):
    """The address and MAC of an endpoint. Empty texts mean: not set."""

    address: str = ""
    address_ipv6: str = msgspec.field(default="", name="AddressIPv6")
    mac_address: str = ""


class EndpointRequest(NetworkRequest, frozen=True):
    """DeleteEndpoint, EndpointOperInfo, Leave, RevokeExternalConnectivity."""

    endpoint_id: str = msgspec.field(name="EndpointID")


class CreateEndpointRequest(EndpointRequest, frozen=True):
    """CreateEndpoint. `options` holds driver-opts, flat, and dockerd's own keys."""

    interface: EndpointInterface | None = None
    options: dict[str, Any] | None = None


class JoinRequest(EndpointRequest, frozen=True):
    """Join. The network namespace behind `sandbox_key` need not exist yet (before 28.0 it does not)."""

    sandbox_key: str = ""
    options: dict[str, Any] | None = None


class PortBinding(Request, frozen=True):
    """One published port, as `types.PortBinding` marshals it; `HostPort` 0 means any."""

    proto: int = 0
    port: int = 0
    host_ip: str = msgspec.field(default="", name="HostIP")
    host_port: int = 0
    host_port_end: int = 0


class ProgramExternalConnectivityRequest(EndpointRequest, frozen=True):
    """ProgramExternalConnectivity. `options` holds the port map of the whole container."""

    options: dict[str, Any] | None = None


class DiscoveryRequest(Request, frozen=True):
    """DiscoverNew, DiscoverDelete. Type 1 is a node."""

    discovery_type: int = 0
    discovery_data: Any = None


class RequestPoolRequest(Request, frozen=True):
    """IpamDriver.RequestPool: `--subnet`, `--ip-range`, `--ipam-opt`."""

    address_space: str = ""
    pool: str = ""
    sub_pool: str = ""
    options: dict[str, str] | None = None
    v6: bool = msgspec.field(default=False, name="V6")


class ReleasePoolRequest(Request, frozen=True):
    """IpamDriver.ReleasePool."""

    pool_id: str = msgspec.field(name="PoolID")


class RequestAddressRequest(Request, frozen=True):
    """IpamDriver.RequestAddress: a gateway, an auxiliary address, or a container's (`--ip` or blank)."""

    pool_id: str = msgspec.field(name="PoolID")
    address: str = ""
    options: dict[str, str] | None = None


class ReleaseAddressRequest(Request, frozen=True):
    """IpamDriver.ReleaseAddress."""

    pool_id: str = msgspec.field(name="PoolID")
    address: str = ""


class Response(msgspec.Struct, frozen=True, rename="pascal", kw_only=True, omit_defaults=True):
    """The base of every response; a field at its default is left out. On its own: `{}`."""


class ActivateResponse(Response, frozen=True):
    """Plugin.Activate."""

    implements: list[str]


class NetworkCapabilities(Response, frozen=True):
    """NetworkDriver.GetCapabilities."""

    scope: str
    connectivity_scope: str
    gw_alloc_checker: bool


class AllocateNetworkResponse(Response, frozen=True):
    """AllocateNetwork: the driver state that reaches the workers with CreateNetwork."""

    options: dict[str, str]


class GwAllocCheckResponse(Response, frozen=True):
    """GwAllocCheck: whether to reserve no gateway address."""

    skip_ipv4: bool = msgspec.field(name="SkipIPv4")
    skip_ipv6: bool = msgspec.field(name="SkipIPv6")


class NewInterface(Response, frozen=True):
    """What CreateEndpoint adds to an interface: never a field that the request had. Addresses are CIDR texts."""

    address: str = ""
    address_ipv6: str = msgspec.field(default="", name="AddressIPv6")
    mac_address: str = ""


class CreateEndpointResponse(Response, frozen=True):
    """CreateEndpoint."""

    interface: NewInterface | None = None


class OperInfoResponse(Response, frozen=True):
    """EndpointOperInfo."""

    value: dict[str, Any]


class InterfaceName(Response, frozen=True):
    """Which link libnetwork moves into the sandbox, and what it calls it there (a number is appended)."""

    src_name: str
    dst_prefix: str


class StaticRoute(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """A route of a container; by a next hop, which is route type 0."""

    destination: str
    route_type: int = 0
    next_hop: str


class JoinResponse(Response, frozen=True):
    """Join. Gateways are bare addresses."""

    interface_name: InterfaceName
    gateway: str = ""
    gateway_ipv6: str = msgspec.field(default="", name="GatewayIPv6")
    static_routes: list[StaticRoute] = []
    disable_gateway_service: bool = False


class IpamCapabilities(Response, frozen=True):
    """IpamDriver.GetCapabilities."""

    requires_mac_address: bool = msgspec.field(name="RequiresMACAddress")
    requires_request_replay: bool


class AddressSpaces(Response, frozen=True):
    """IpamDriver.GetDefaultAddressSpaces."""

    local_default_address_space: str
    global_default_address_space: str


class RequestPoolResponse(Response, frozen=True):
    """IpamDriver.RequestPool: `pool` is a masked CIDR."""

    pool_id: str = msgspec.field(name="PoolID")
    pool: str
    data: dict[str, str]


class RequestAddressResponse(Response, frozen=True):
    """IpamDriver.RequestAddress: `address` is a CIDR whose mask becomes the container's."""

    address: str
    data: dict[str, str]


R = TypeVar("R", bound=Request)
T = TypeVar("T")


def decode(body: bytes, kind: type[R]) -> R:
    """Read a request; raise EmptyBody, or MalformedRequest saying which field is wrong."""
    if not body.strip():
        raise EmptyBody(
            "the request has no body: it is a retry of a call that was cut off, and cannot be answered; "
            "run the command again"
        )
    try:
        request = msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequest(f"the request cannot be read: {error}") from None
    _check_ids(request)
    return request


def encode(response: Response) -> bytes:
    """Write a response."""
    return msgspec.json.encode(response)


def _check_ids(request: Request) -> None:
    for field, (shape, words) in _IDS.items():
        value = getattr(request, field, None)
        if value is not None and not shape.fullmatch(value):
            raise MalformedRequest(f"{field} {value[:40]!r} is not an id: {words}")


def read_port_map(options: dict[str, Any] | None) -> list[PortBinding]:
    """Read which ports a container publishes; raise MalformedRequest saying which field is wrong."""
    try:
        return msgspec.convert((options or {}).get(PORT_MAP) or [], list[PortBinding])
    except msgspec.ValidationError as error:
        raise MalformedRequest(f"{PORT_MAP} cannot be read: {error}") from None


def read_path(text: str, what: str) -> str:
    """Read an absolute path."""
    if text.startswith("/") and "\0" not in text and len(text.encode()) <= _LONGEST_PATH:
        return text
    raise MalformedRequest(f"{what} {text[:60]!r} is not an absolute path")


def read_address(text: str, what: str) -> Address:
    """Read a bare address."""
    return _read(text, what, ip_address, "an IP address")


def read_interface(text: str, what: str) -> IPv4Interface | IPv6Interface:
    """Read an address with its mask, as `9.0.0.130/25`."""
    return _read(text, what, ip_interface, "an address with a mask such as 9.0.0.130/25")


def read_network(text: str, what: str) -> Network:
    """Read a subnet; host bits are masked away (20.10 lets them through)."""

    def masked(text: str) -> IPv4Network | IPv6Network:
        return ip_network(text, strict=False)

    return _read(text, what, masked, "a subnet such as 10.64.0.0/16")


def _read(text: str, what: str, reader: Callable[[str], T], wanted: str) -> T:
    # An IPv6 zone ("%eth0") would come through ipaddress, and Go takes none back.
    try:
        if "%" not in text:
            return reader(text)
    except ValueError:
        pass
    raise MalformedRequest(f"{what} {text[:60]!r} is not {wanted}")
