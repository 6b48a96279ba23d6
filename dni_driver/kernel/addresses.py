# SPDX-License-Identifier: Apache-2.0
"""The addresses that links carry."""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import IPv6Interface, ip_interface
from typing import Any

from pyroute2.iproute import IPRoute

from dni_driver.core.records import Interface
from dni_driver.kernel.netlink.conversation import Message, dump

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
"""What the kernel calls the versions of IP."""

_NO_DUPLICATE_DETECTION = 0x02


def read(kernel: IPRoute, links: Collection[int] | None = None) -> list[tuple[int, Interface]]:
    """Read the addresses of all links, or of those with these indexes: each with its link's index, and its mask."""

    def of_links(message: Message) -> tuple[int, Interface] | None:
        index = message["index"]
        if links is not None and index not in links:
            return None
        return index, ip_interface((message.get("local") or message.get("address"), message["prefixlen"]))

    return dump(kernel.addr, of_links)


def described(address: Interface) -> dict[str, Any]:
    """Answer what to tell the kernel of an address that is to be put on a link and used at once."""
    unchecked = {"flags": _NO_DUPLICATE_DETECTION} if isinstance(address, IPv6Interface) else {}
    return {"address": str(address.ip), "prefixlen": address.network.prefixlen, **unchecked}
