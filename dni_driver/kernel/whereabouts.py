# SPDX-License-Identifier: Apache-2.0
"""Where this host stands: the address it is best known by, and the link that carries it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec
from pyroute2.netlink.rtnl import rt_scope

from dni_driver.core.errors import KernelError
from dni_driver.core.mtu import Underlay
from dni_driver.core.overlays import FAMILIES, Address, Family, Network, family_of
from dni_driver.core.records import Interface
from dni_driver.kernel import addresses, routes
from dni_driver.kernel.netlink.conversation import Message, conversation, dump
from dni_driver.kernel.snapshot import LinkDetails, find, names

_NOT_AN_UPLINK = ("lo", "d-", "m-", "docker", "br-", "vtep1024", "veth", "dni")
_PERMANENT = 0x80
_PASSING = 0x01 | 0x08 | 0x20 | 0x40
"""Flags of IPv6 addresses that no other host should know this one by (linux/if_addr.h): temporary, found to be a
duplicate, deprecated, not checked yet."""
_ALONE = 128


class _Carried(msgspec.Struct, frozen=True):
    """An address that others can know this host by, and the index of its link."""

    link: int
    address: Address
    lasting: bool


def agent_address() -> Address:
    """Answer the address of the default route's link, IPv4's before IPv6's, else the first global IPv4 one.

    Without any, 127.0.0.1.
    """
    own, indexes = _global_addresses(), names()
    for family in FAMILIES:
        for route in sorted(routes.defaults(family), key=lambda route: route.metric):
            found = route.source or own.get((indexes.get(route.link, 0), family))
            if found is not None:
                return found
    uplinks = (index for name, index in indexes.items() if not name.startswith(_NOT_AN_UPLINK))
    return next((own[index, 4] for index in uplinks if (index, 4) in own), IPv4Address("127.0.0.1"))


def _global_addresses() -> dict[tuple[int, Family], Address]:
    """Answer an address of each link and family: the first IPv4 one; the lowest IPv6 one, of those that last."""
    with conversation() as kernel:
        carried: list[_Carried] = dump(kernel.addr, _carried)
    found: dict[tuple[int, Family], Address] = {}
    for one in sorted(carried, key=_preference):
        found.setdefault((one.link, family_of(one.address)), one.address)
    return found


def _preference(one: _Carried) -> tuple[bool, int]:
    """Keep IPv4 addresses in the kernel's order; its order of IPv6 addresses is another after each start."""
    return (not one.lasting, int(one.address)) if one.address.version == 6 else (False, 0)  # noqa: PLR2004


def _carried(message: Message) -> _Carried | None:
    address = ip_address(message.get("local") or message.get("address"))
    if address.is_loopback or address.is_link_local:
        return None
    if address.version == 6 and (message["flags"] & _PASSING or message["scope"] != rt_scope["universe"]):  # noqa: PLR2004
        return None
    return _Carried(message["index"], address, lasting=bool(message["flags"] & _PERMANENT))


def underlay(agent: Address) -> Underlay:
    """Answer the link that carries an agent IP; raise KernelError where none does."""
    with conversation() as kernel:
        carried = addresses.read(kernel)
        own = next(((index, interface) for index, interface in carried if interface.ip == agent), None)
        link = None if own is None else find(kernel, index=own[0])
    if own is None or link is None:
        raise KernelError(f"no link of this host carries the agent IP {agent}: see `ip address`")
    networks = _networks(own[1], [interface for index, interface in carried if index == link.index])
    local = agent if isinstance(agent, IPv6Address) else None
    return Underlay(
        link=link.name,
        mtu=link.mtu,
        networks=tuple(dict.fromkeys([*networks, *_advertised(own[1], link)])),
        local=local,
    )


def _networks(own: Interface, carried: list[Interface]) -> Iterator[Network]:
    """Answer the networks of a link, those of the agent IP's family."""
    for interface in carried:
        if (
            interface.version == own.version
            and interface.is_link_local == own.is_link_local
            and interface.network.prefixlen < _ALONE
        ):
            yield interface.network


def _advertised(own: Interface, link: LinkDetails) -> list[Network]:
    """Answer what is on a link by its routes, where the agent IP does not tell: DHCP gives IPv6 without a prefix."""
    if own.version == 4 or own.network.prefixlen < _ALONE:  # noqa: PLR2004
        return []
    return [network for network, name in routes.on_links(6) if name == link.name and network.prefixlen < _ALONE]


def carrier(agent: Address) -> LinkDetails | None:
    """Answer the link that carries an agent IP; None where none does."""
    with conversation() as kernel:
        index = next((index for index, interface in addresses.read(kernel) if interface.ip == agent), None)
        return None if index is None else find(kernel, index=index)
