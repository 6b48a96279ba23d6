# SPDX-License-Identifier: Apache-2.0
"""The routes of this host, read only: what overlaps, where the uplink is."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

import msgspec

from dni_driver.core.errors import KernelError
from dni_driver.core.overlays import Address, Network
from dni_driver.kernel import snapshot
from dni_driver.kernel.netlink import Answer, Message, Netlink, as_number, raw

GETROUTE = 26
_HEADER = struct.Struct("=BBBBBBBBI")
"""Family, destination and source prefix lengths, TOS, table, protocol, scope, type, flags."""
_DESTINATION, _OUT, _GATEWAY, _METRIC, _PREFERRED, _TABLE = 1, 4, 5, 6, 7, 15
_MAIN, _UNICAST, _ON_LINK, _LEARNED = 254, 1, 253, 9
_FAMILIES = {4: 2, 6: 10}
_RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_STUB = "127.0.0.53"
_NOT_AN_UPLINK = ("lo", "d-", "m-", "docker", "br-", "vtep1024", "veth", "dni")


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A unicast route of the main table; `gateway` False where its hosts are on the link itself."""

    destination: IPv4Network | IPv6Network
    link: int
    gateway: bool
    scope: int
    metric: int
    protocol: int
    source: Address | None


def overlapping(network: Network, resolv_conf: Sequence[Path] = _RESOLV_CONF) -> list[str]:
    """Answer in words the on-link routes and name servers of this host that lie in a network or around it.

    dockerd asks for another pool, for ever, while the one it got overlaps any of these (IpamDriver.RequestPool).
    """
    seen = snapshot.read()
    routes = [
        f"{route.destination} on {seen.name(route.link) or f'link {route.link}'}"
        for route in _routes(network.version)
        if _on_link(route) and _overlap(route.destination, network)
    ]
    servers = [server for server in _name_servers(resolv_conf) if server.version == network.version]
    return routes + [f"name server {server}" for server in servers if server in network]


def _on_link(route: Route) -> bool:
    if route.destination.version == 4:  # noqa: PLR2004
        return route.scope == _ON_LINK
    return not route.gateway and not route.destination.is_link_local


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.prefixlen > 0 and one.overlaps(other)


def _name_servers(paths: Sequence[Path]) -> list[Address]:
    """Read the name servers as dockerd does: behind systemd-resolved's stub, those it asks."""
    found: list[Address] = []
    for path in paths:
        found = list(_listed(path))
        if [str(server) for server in found] != [_STUB]:
            break
    return found


def _listed(path: Path) -> Iterator[Address]:
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    for words in (line.split() for line in lines):
        if len(words) > 1 and words[0] == "nameserver":
            try:
                yield ip_address(words[1].partition("%")[0])
            except ValueError:
                continue


def agent_address() -> IPv4Address:
    """Answer the address of the default route's link, else the first global one, else 127.0.0.1."""
    seen = snapshot.read()
    defaults = [route for route in _routes(4) if route.destination.prefixlen == 0 and route.link]
    for route in sorted(defaults, key=lambda route: route.metric):
        if isinstance(route.source, IPv4Address):
            return route.source
        for address in _global_addresses(seen, seen.name(route.link)):
            return address
    uplinks = (name for name in seen.links if not name.startswith(_NOT_AN_UPLINK))
    return next((address for name in uplinks for address in _global_addresses(seen, name)), IPv4Address("127.0.0.1"))


def _global_addresses(seen: snapshot.Snapshot, name: str | None) -> Iterator[IPv4Address]:
    link = seen.links.get(name or "")
    for interface in seen.addresses(link) if link else ():
        if isinstance(interface.ip, IPv4Address) and not interface.is_loopback and not interface.is_link_local:
            yield interface.ip


def underlay_mtu(agent: IPv4Address) -> int:
    """Answer the MTU in bytes of the link that carries an agent IP; raise KernelError where none does."""
    seen = snapshot.read()
    for link in seen.links.values():
        if any(address.ip == agent for address in seen.addresses(link)):
            return link.mtu
    raise KernelError(f"no link of this host carries the agent IP {agent}: see `ip -4 address`")


def advertised_uplinks() -> set[str]:
    """Answer the links whose default route came from an IPv6 router advertisement."""
    seen = snapshot.read()
    learned = [route for route in _routes(6) if route.destination.prefixlen == 0 and route.protocol == _LEARNED]
    return {name for route in learned if (name := seen.name(route.link))}


def on_link(address: Address) -> int | None:
    """Answer the link on which an address is to be found, without a router between; None where it is not."""
    body = _HEADER.pack(_FAMILIES[address.version], address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    with Netlink() as kernel:
        answer = kernel.get(Message(GETROUTE, 0, body + raw(_DESTINATION, address.packed)))
    if answer is None or _HEADER.unpack_from(answer.body)[7] != _UNICAST:
        return None
    attributes = answer.attributes(_HEADER.size)
    return None if _GATEWAY in attributes else as_number(attributes, _OUT)


def _routes(version: int) -> list[Route]:
    with Netlink() as kernel:
        answers = kernel.dump(GETROUTE, _HEADER.pack(_FAMILIES[version], *[0] * 8))
    return [route for answer in answers if (route := _route(answer, version))]


def _route(answer: Answer, version: int) -> Route | None:
    _, length, _, _, table, protocol, scope, kind, _ = _HEADER.unpack_from(answer.body)
    attributes = answer.attributes(_HEADER.size)
    if kind != _UNICAST or as_number(attributes, _TABLE, table) != _MAIN:
        return None
    packed = attributes.get(_DESTINATION, bytes(4 if version == 4 else 16))  # noqa: PLR2004
    source = attributes.get(_PREFERRED)
    return Route(
        destination=ip_network((packed, length)),
        link=as_number(attributes, _OUT),
        gateway=_GATEWAY in attributes,
        scope=scope,
        metric=as_number(attributes, _METRIC),
        protocol=protocol,
        source=ip_address(source) if source else None,
    )
