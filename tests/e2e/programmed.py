# SPDX-License-Identifier: Apache-2.0
"""What the kernel of a host has of other agents, written as dcos-net's commands would be: see tests/dcos_net.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.lab import Host

_DEVICE = "vtep1024"
_VTEPS = "fd01:a::", "44.128."


def entries(host: Host) -> set[str]:
    """Answer what a host has of each peer: neighbours, forwarding, routes, and table 42."""
    return {*_neighbours(host), *_forwarding(host), *_routes(host), *_agents(host)}


def own(host: Host) -> set[str]:
    """Answer what a host has for all peers: its VTEP with its addresses, and which overlays look in table 42."""
    (link,) = json.loads(host.run("ip", "-d", "-j", "addr", "show", "dev", _DEVICE))
    vxlan = link["linkinfo"]["info_data"]
    found = {
        f"ip link add {_DEVICE} type vxlan id {vxlan['id']} dstport {vxlan['port']}",
        f"ip link set {_DEVICE} address {link['address']}{' up' * ('UP' in link['flags'])}",
    }
    for one in link["addr_info"]:
        if one["local"].startswith(_VTEPS):
            command = {"inet": "ip addr", "inet6": "ip -6 addr"}[one["family"]]
            found.add(f"{command} replace {one['local']}/{one['prefixlen']} dev {_DEVICE}")
    return found | set(_rules(host))


def _listed(host: Host, *argv: str) -> list[dict[str, Any]]:
    """Answer a list in JSON; where there is none, as of a table that nobody has written to, it is empty."""
    return list(json.loads(host.try_run(*argv).stdout or "[]"))


def _neighbours(host: Host) -> Iterator[str]:
    for one in _listed(host, "ip", "-j", "neigh", "show", "dev", _DEVICE, "nud", "permanent"):
        yield f"ip neigh replace {one['dst']} lladdr {one['lladdr']} dev {_DEVICE} nud permanent"


def _forwarding(host: Host) -> Iterator[str]:
    for one in _listed(host, "bridge", "-j", "fdb", "show", "dev", _DEVICE):
        if "dst" in one:
            yield f"bridge fdb replace {one['mac']} dev {_DEVICE} dst {one['dst']} {' '.join(one['flags'])}"


def _routes(host: Host) -> Iterator[str]:
    for family in ("-4", "-6"):
        for one in _listed(host, "ip", family, "-j", "route", "show"):
            if one.get("dev") == _DEVICE and "gateway" in one:
                yield f"ip route replace {one['dst']} via {one['gateway']}"


def _agents(host: Host) -> Iterator[str]:
    for one in _listed(host, "ip", "-j", "route", "show", "table", "42"):
        yield f"ip route replace {one['dst']}/32 via {one['gateway']} table 42"


def _rules(host: Host) -> Iterator[str]:
    for one in _listed(host, "ip", "-j", "rule", "show", "table", "42"):
        yield f"ip rule add from {one['src']}/{one['srclen']} lookup 42"
