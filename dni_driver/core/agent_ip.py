# SPDX-License-Identifier: Apache-2.0
"""Addresses that agents are named by: IPv4 ones or IPv6 ones, of one family in a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, ip_address

from dni_driver.core.errors import Refused
from dni_driver.core.overlays import Address

_BROADCAST = IPv4Address("255.255.255.255")


def read(text: str) -> Address:
    """Read an address that a host can be an agent by; raise ValueError for one that means something on one link."""
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return address
    if address.scope_id or address.is_link_local or address.is_multicast or address.ipv4_mapped:
        raise ValueError(text)
    return address


def read_own(text: str) -> Address:
    """Read the address that a host is to be an agent by; raise ValueError for one that no host has."""
    address = read(text)
    if address.is_unspecified or address.is_multicast or address == _BROADCAST:
        raise ValueError(text)
    return address


def in_order(addresses: Iterable[Address]) -> list[Address]:
    """Sort addresses, of whatever families: IPv4 first."""
    return sorted(addresses, key=lambda address: (address.version, int(address)))


def check_family(agent_ip: Address, others: Iterable[Address]) -> None:
    """Raise Refused where other agents have the other family of addresses: no packet would get to them."""
    if any(other.version != agent_ip.version for other in others):
        theirs = 10 - agent_ip.version
        raise Refused(
            f"agents of this registry are named by IPv{theirs} addresses; this host's agent IP is {agent_ip}: set "
            f"agent.ip to an IPv{theirs} address of it"
        )
