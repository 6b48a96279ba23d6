# SPDX-License-Identifier: Apache-2.0
"""The routes to what is on a link of ours: the kernel makes one with each address, and never makes it again."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from ipaddress import ip_network

from pyroute2.iproute import IPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_NEWROUTE, rt_proto, rt_scope, rt_type

from dni_driver.core.overlays import Network
from dni_driver.core.records import Interface
from dni_driver.kernel import addresses
from dni_driver.kernel.netlink.conversation import Message, conversation, dump, tolerating

_MAIN = 254
_METRIC6 = 256
"""What the kernel gives those of IPv6."""
_PREPEND = RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
"""As `ip route prepend`, which pyroute2 has no word for."""


def mend(index: int, carried: Iterable[Interface]) -> list[Network]:
    """Put the routes that are missing of those to the subnets of a link's addresses; answer them."""
    with conversation() as kernel:
        missing = [address for address in carried if _is_missing(kernel, index, address)]
        for address in missing:
            _put(kernel, index, address)
    return [address.network for address in missing]


def _is_missing(kernel: IPRoute, index: int, address: Interface) -> bool:
    """Ask for the way to one neighbour, which is cheap, and for all routes only where that is another."""
    if address.network.num_addresses == 1 or _way(kernel, address) == index:
        return False

    def there(message: Message) -> Network | None:
        if message.get("table") != _MAIN or message.get("oif") != index or message.get("dst") is None:
            return None
        found: Network = ip_network((message.get("dst"), message["dst_len"]))
        return found

    return address.network not in dump(kernel.route, there, family=addresses.FAMILIES[address.version])


def _way(kernel: IPRoute, address: Interface) -> int | None:
    """Answer the link by which a neighbour of an address is reached."""
    neighbour = address.ip + 1 if address.ip != address.network[-2] else address.ip - 1
    with tolerating(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESRCH, errno.EACCES, errno.EINVAL):
        for route in kernel.route("get", dst=str(neighbour)):
            index: int | None = route.get("oif")
            return index
    return None


def _put(kernel: IPRoute, index: int, address: Interface) -> None:
    """Put a route as the kernel would: before one of somebody else's that has taken its place, and stays."""
    four = {"prefsrc": str(address.ip), "scope": rt_scope["link"]}
    own = four if address.version == 4 else {"priority": _METRIC6}  # noqa: PLR2004
    put = {"oif": index, "table": _MAIN, "type": rt_type["unicast"], "proto": rt_proto["kernel"], **own}
    with tolerating(errno.EEXIST):
        kernel.route(_PREPEND, dst=str(address.network), **put)
