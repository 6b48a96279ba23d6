# SPDX-License-Identifier: Apache-2.0
"""The routes of this host, read only: what overlaps, where the uplink is."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_network
from pathlib import Path

import msgspec
from pyroute2.netlink.rtnl import rt_proto, rt_scope, rt_type

from dni_driver.core.errors import KernelError
from dni_driver.core.mtu import Underlay
from dni_driver.core.overlays import Address, Network
from dni_driver.kernel import addresses
from dni_driver.kernel.conversation import Message, conversation, dump, tolerating
from dni_driver.kernel.snapshot import LinkDetails, find, names

_MAIN = 254
_RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_STUB = "127.0.0.53"
_NARROWEST_DEFAULT = {socket.AF_INET: 8, socket.AF_INET6: 16}
"""Bits; a VPN that takes all traffic has two routes of one bit each."""
_NOT_AN_UPLINK = ("lo", "d-", "m-", "docker", "br-", "vtep1024", "veth", "dni")


class Default(msgspec.Struct, frozen=True, kw_only=True):
    """A default route of the main table: the index of its link, and the address it sends from, where it says so."""

    link: int
    metric: int
    protocol: int
    source: Address | None


def overlapping(network: Network, resolv_conf: Sequence[Path] = _RESOLV_CONF) -> list[str]:
    """Answer in words the on-link routes and name servers of this host that lie in a network or around it.

    dockerd asks for another pool, for ever, while the one it got overlaps any of these (IpamDriver.RequestPool).
    """
    with conversation() as kernel:
        on_link = dump(kernel.route, _on_link_route, family=addresses.FAMILIES[network.version])
    links = {index: name for name, index in names().items()}
    routes = [f"{other} on {links.get(link, f'link {link}')}" for other, link in on_link if other.overlaps(network)]
    servers = [server for server in _name_servers(resolv_conf) if server.version == network.version]
    return routes + [f"name server {server}" for server in servers if server in network]


def _on_link_route(message: Message) -> tuple[Network, int] | None:
    """Read a route whose hosts are on the link itself, with the index of that; None for all others."""
    if message["family"] == socket.AF_INET and message["scope"] != rt_scope["link"]:
        return None
    destination = message.get("dst")
    if destination is None or message.get("gateway") is not None or not _is_ordinary(message):
        return None
    network = ip_network((destination, message["dst_len"]))
    return None if network.version == 6 and network.is_link_local else (network, message.get("oif", 0))  # noqa: PLR2004


def _is_ordinary(message: Message) -> bool:
    return bool(message["type"] == rt_type["unicast"] and message.get("table") == _MAIN)


def leads_into(network: Network) -> bool:
    """Tell whether a route leads into a network, in whichever table; one to half the world counts as default."""
    with conversation() as kernel:
        routed: list[Network] = dump(kernel.route, _routed, family=addresses.FAMILIES[network.version])
    return any(other.overlaps(network) for other in routed if other.version == network.version)


def _routed(message: Message) -> Network | None:
    """Read where a route leads to; None for addresses of this host and for the wide world."""
    if message["type"] != rt_type["unicast"] or message["dst_len"] < _NARROWEST_DEFAULT[message["family"]]:
        return None
    found: Network = ip_network((message.get("dst"), message["dst_len"]))
    return found


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
    own = _global_addresses()
    for route in sorted(_defaults(4), key=lambda route: route.metric):
        if isinstance(route.source, IPv4Address):
            return route.source
        if route.link in own:
            return own[route.link]
    uplinks = (index for name, index in names().items() if not name.startswith(_NOT_AN_UPLINK))
    return next((own[index] for index in uplinks if index in own), IPv4Address("127.0.0.1"))


def _global_addresses() -> dict[int, IPv4Address]:
    """Answer the first global address of each link that has one, by its index."""
    with conversation() as kernel:
        carried = [(link, interface.ip) for link, interface in addresses.read(kernel)]
    found: dict[int, IPv4Address] = {}
    for link, address in carried:
        if isinstance(address, IPv4Address) and not address.is_loopback and not address.is_link_local:
            found.setdefault(link, address)
    return found


def _defaults(version: int) -> list[Default]:
    with conversation() as kernel:
        routes = list(kernel.get_default_routes(addresses.FAMILIES[version]))
    return [_default(route) for route in routes if _is_ordinary(route)]


def _default(message: Message) -> Default:
    source = message.get("prefsrc")
    return Default(
        link=message.get("oif", 0),
        metric=message.get("priority", 0),
        protocol=message["proto"],
        source=ip_address(source) if source else None,
    )


def underlay(agent: IPv4Address) -> Underlay:
    """Answer the link that carries an agent IP; raise KernelError where none does."""
    with conversation() as kernel:
        carried = addresses.read(kernel)
        index = next((index for index, interface in carried if interface.ip == agent), None)
        link = None if index is None else find(kernel, index=index)
    if link is None:
        raise KernelError(f"no link of this host carries the agent IP {agent}: see `ip -4 address`")
    networks = (one.network for index, one in carried if index == link.index and isinstance(one, IPv4Interface))
    return Underlay(link=link.name, mtu=link.mtu, networks=tuple(dict.fromkeys(networks)))


def carrier(agent: IPv4Address) -> LinkDetails | None:
    """Answer the link that carries an agent IP; None where none does."""
    with conversation() as kernel:
        index = next((index for index, interface in addresses.read(kernel) if interface.ip == agent), None)
        return None if index is None else find(kernel, index=index)


def advertised_uplinks() -> set[str]:
    """Answer the links whose default route came from an IPv6 router advertisement."""
    learned = {route.link for route in _defaults(6) if route.protocol == rt_proto["ra"]}
    return {name for name, index in names().items() if index in learned}


def on_link(address: Address) -> int | None:
    """Answer the link on which an address is to be found, without a router between; None where it is not."""
    with conversation() as kernel, tolerating(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESRCH, errno.ENODEV):
        (route,) = kernel.route("get", dst=str(address))
        if route["type"] == rt_type["unicast"] and route.get("gateway") is None:
            link: int | None = route.get("oif")
            return link
    return None
