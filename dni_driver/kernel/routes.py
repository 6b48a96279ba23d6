# SPDX-License-Identifier: Apache-2.0
"""The routes of this host, read only: what overlaps, where they lead."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import msgspec
from pyroute2.netlink.rtnl import rt_proto, rt_scope, rt_type

from dni_driver.core.overlays import Address, Network
from dni_driver.kernel import addresses
from dni_driver.kernel.netlink.conversation import Message, conversation, dump, tolerating
from dni_driver.kernel.snapshot import names

_MAIN = 254
_RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_STUB = "127.0.0.53"
_NARROWEST_DEFAULT = {socket.AF_INET: 8, socket.AF_INET6: 16}
"""Bits; a VPN that takes all traffic has two routes of one bit each."""


class Default(msgspec.Struct, frozen=True, kw_only=True):
    """A default route of the main table: the index of its link, and the address it sends from, where it says so."""

    link: int
    metric: int
    protocol: int
    source: Address | None


def overlapping(network: Network, resolv_conf: Sequence[Path] = _RESOLV_CONF, own: Collection[str] = ()) -> list[str]:
    """Answer in words the on-link routes and name servers of this host that lie in a network or around it.

    dockerd asks for another pool, for ever, while the one it got overlaps any of these (IpamDriver.RequestPool).
    Routes on a link of `own` do not count.
    """
    on_link = on_links(network.version)
    links = {index: name for name, index in names().items()}
    named = [(other, links.get(link, f"link {link}")) for other, link in on_link if other.overlaps(network)]
    routes = [f"{other} on {link}" for other, link in named if link not in own]
    servers = [server for server in _name_servers(resolv_conf) if server.version == network.version]
    return routes + [f"name server {server}" for server in servers if server in network]


def on_links(version: int) -> list[tuple[Network, int]]:
    """Answer the networks whose hosts are on a link itself, by the main table, each with the index of that link."""
    with conversation() as kernel:
        return dump(kernel.route, _on_link_route, family=addresses.FAMILIES[version])


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


def defaults(version: int) -> list[Default]:
    """Answer the default routes of one version of IP."""
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


def advertised_uplinks() -> set[str]:
    """Answer the links whose default route came from an IPv6 router advertisement."""
    learned = {route.link for route in defaults(6) if route.protocol == rt_proto["ra"]}
    return {name for name, index in names().items() if index in learned}


def on_link(address: Address) -> int | None:
    """Answer the link on which an address is to be found, without a router between; None where it is not."""
    with conversation() as kernel, tolerating(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESRCH, errno.ENODEV):
        (route,) = kernel.route("get", dst=str(address))
        if route["type"] == rt_type["unicast"] and route.get("gateway") is None:
            link: int | None = route.get("oif")
            return link
    return None
