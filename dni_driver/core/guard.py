# SPDX-License-Identifier: Apache-2.0
"""What each container link may send as: its own MAC, and the addresses of its own sandbox."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import msgspec

from dni_driver.core.mac import link_local
from dni_driver.core.overlays import Address
from dni_driver.core.wanted import Link


class Permits(msgspec.Struct, frozen=True, kw_only=True):
    """What links, by their host ends, may send as: MACs, and addresses with the MAC they go with.

    Links in `free` are not checked.
    """

    free: frozenset[str]
    macs: frozenset[tuple[str, str]]
    addresses: frozenset[tuple[str, str, IPv4Address | IPv6Address]]


def permits(links: Iterable[Link]) -> Permits:
    """Answer what links may send as.

    A container on several networks may answer for each of its addresses on any of its links: what comes in by one
    and is answered by the default route leaves by another. A link-local address is of its link alone.
    """
    known = list(links)
    checked = [link for link in known if not link.spoof]
    of_sandbox = _addresses_by_sandbox(known)
    return Permits(
        free=frozenset(link.host for link in known if link.spoof),
        macs=frozenset((link.host, link.mac) for link in checked),
        addresses=frozenset(
            (link.host, link.mac, address)
            for link in checked
            for address in (*of_sandbox[_sandbox(link)], link_local(link.mac))
        ),
    )


def _addresses_by_sandbox(links: Iterable[Link]) -> dict[str, set[Address]]:
    found: dict[str, set[Address]] = {}
    for link in links:
        found.setdefault(_sandbox(link), set()).update(interface.ip for interface in link.addresses)
    return found


def _sandbox(link: Link) -> str:
    return link.sandbox or link.endpoint
