# SPDX-License-Identifier: Apache-2.0
"""The IPv4 subnets that an IPv6-only overlay's containers have besides, on this host alone.

Engines before 28 make no network without IPv4, and take an IPv6 gateway only beside an IPv4 one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

import msgspec

from dni_driver.core.overlays import Family, Network, share_addresses

SPACE = IPv4Network("198.18.0.0/15")
"""For measurements between two machines (RFC 2544): routed nowhere, and no site numbers its hosts from it."""
PREFIX = 20
"""Room for 4,093 containers: a bridge has 1,023 ports at the most."""


class LocalSubnet(msgspec.Struct, frozen=True, kw_only=True):
    """The IPv4 subnet of one IPv6-only overlay on this host; no other host knows it."""

    overlay: str
    subnet: IPv4Network

    @property
    def family(self) -> Family:
        """Answer 4."""
        return 4

    @property
    def docker_half(self) -> Network:
        """Answer all of it: nothing of it is Mesos'."""
        return self.subnet


def free_subnets(taken: Iterable[Network]) -> Iterator[IPv4Network]:
    """Answer the local subnets that share no address with what is taken, lowest first."""
    others = list(taken)
    for subnet in SPACE.subnets(new_prefix=PREFIX):
        if not any(share_addresses(subnet, other) for other in others):
            yield subnet
