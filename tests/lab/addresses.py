# SPDX-License-Identifier: Apache-2.0
"""The addresses of a lab. Every lab has the same ones: none is seen outside its namespaces.

The hosts share one link with `outside`, which is their default gateway. Beyond it, on `outside` itself, is
an address of another subnet that stands for the rest of the world. All are from the blocks reserved for
documentation.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

LINK = IPv4Network("192.0.2.0/24")
LINK6 = IPv6Network("2001:db8:2::/64")
OUTSIDE = LINK[1]
OUTSIDE6 = LINK6[1]
WORLD = IPv4Address("198.51.100.1")
WORLD6 = IPv6Address("2001:db8:51::1")
_FIRST_SERVER = 2
_FIRST_HOST = 11
MOST_SERVERS = _FIRST_HOST - _FIRST_SERVER
MOST_HOSTS = LINK.num_addresses - 1 - _FIRST_HOST


def of_host(number: int) -> tuple[str, str]:
    """Answer the IPv4 and the IPv6 address of a host, the first being number 0."""
    return str(LINK[_FIRST_HOST + number]), str(LINK6[_FIRST_HOST + number])


def of_server(number: int) -> tuple[str, str]:
    """Answer the IPv4 and the IPv6 address of a node without Docker, the first being number 0."""
    return str(LINK[_FIRST_SERVER + number]), str(LINK6[_FIRST_SERVER + number])
