# SPDX-License-Identifier: Apache-2.0
"""The routes of this host, read only: what overlaps, where they lead.

Thousands of them lead to other agents: so `ip` picks out those that are asked for.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import msgspec
from pyroute2.netlink.rtnl import rt_proto, rt_type

from dni_driver.core.overlays import Address, Network
from dni_driver.kernel.command import run
from dni_driver.kernel.netlink.conversation import conversation, tolerating

_RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_STUB = "127.0.0.53"
_NARROWEST_DEFAULT = {4: 8, 6: 16}
"""Bits; a VPN that takes all traffic has two routes of one bit each."""
_DEFAULT = "default"
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESRCH, errno.EACCES, errno.EINVAL)
"""What the kernel says of addresses that no route leads to, or one of the kind unreachable, prohibit or blackhole."""


class _Route(msgspec.Struct):
    """A route as `ip` writes it, what stands for numbers in numbers. `nexthops`: it has several ways."""

    dst: str
    dev: str = ""
    gateway: str | None = None
    via: object = None
    nexthops: object = None
    protocol: str = ""
    metric: int = 0
    prefsrc: str | None = None


class Default(msgspec.Struct, frozen=True, kw_only=True):
    """A default route of the main table: its link, and the address it sends from, where it says so."""

    link: str
    metric: int
    protocol: str
    source: Address | None


def overlapping(network: Network, resolv_conf: Sequence[Path] = _RESOLV_CONF, own: Collection[str] = ()) -> list[str]:
    """Answer in words the on-link routes and name servers of this host that lie in a network or around it.

    dockerd asks for another pool, for ever, while the one it got overlaps any of these (IpamDriver.RequestPool).
    Routes on a link of `own` do not count.
    """
    named = [(other, link) for other, link in on_links(network.version) if other.overlaps(network)]
    routes = [f"{other} on {link}" for other, link in named if link not in own]
    servers = [server for server in _name_servers(resolv_conf) if server.version == network.version]
    return routes + [f"name server {server}" for server in servers if server in network]


def on_links(version: int) -> list[tuple[Network, str]]:
    """Answer the networks whose hosts are on a link itself, by the main table, each with that link."""
    scope = ("scope", "link") if version == 4 else ()  # noqa: PLR2004 - all of IPv6 have the same
    listed = _shown(version, "table", "main", *scope)
    direct = [row for row in listed if row.dst != _DEFAULT and not (row.gateway or row.via or row.nexthops)]
    found = [(ip_network(row.dst), row.dev) for row in direct]
    return [(network, link) for network, link in found if not (version == 6 and network.is_link_local)]  # noqa: PLR2004


def leads_into(network: Network) -> bool:
    """Tell whether a route leads into a network, in whichever table; one to half the world counts as default."""
    narrowest = _NARROWEST_DEFAULT[network.version]
    listed = [row for way in ("root", "match") for row in _shown(network.version, "table", "all", way, str(network))]
    return any(ip_network(row.dst).prefixlen >= narrowest for row in listed if row.dst != _DEFAULT)


def _shown(version: int, *which: str) -> list[_Route]:
    """List routes to other hosts; raise KernelError."""
    text = run(["ip", f"-{version}", "-N", "-json", "route", "show", *which, "type", "unicast"])
    return msgspec.json.decode(text, type=list[_Route]) if text.strip() else []


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
    return [_default(row) for row in _shown(version, "table", "main", "exact", _DEFAULT)]


def _default(row: _Route) -> Default:
    source = ip_address(row.prefsrc) if row.prefsrc else None
    return Default(link=row.dev, metric=row.metric, protocol=row.protocol, source=source)


def advertised_uplinks() -> set[str]:
    """Answer the links whose default route came from an IPv6 router advertisement."""
    return {route.link for route in defaults(6) if route.protocol == str(rt_proto["ra"])}


def on_link(address: Address) -> int | None:
    """Answer the link on which an address is to be found, without a router between; None where it is not."""
    with conversation() as kernel, tolerating(*_NO_WAY, errno.ENODEV):
        (route,) = kernel.route("get", dst=str(address))
        if route["type"] == rt_type["unicast"] and route.get("gateway") is None:
            link: int | None = route.get("oif")
            return link
    return None
