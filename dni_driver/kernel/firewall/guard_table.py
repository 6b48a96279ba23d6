# SPDX-License-Identifier: Apache-2.0
"""The nftables table `bridge dni`: what comes in by a container link must come from that container.

It stands before everybody else's rules for bridges. Only IPv4, IPv6 and ARP pass, without VLAN tags: in any other
frame a receiver may find a packet that these rules did not see (CERT VU#855201). What is in no set is dropped, so
a link is closed until its elements are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address

from dni_driver.core.guard import Permits
from dni_driver.core.names import HOST_LINK_PREFIX
from dni_driver.core.overlays import Address

NAME = "bridge dni"

_PORT = f'iifname "{HOST_LINK_PREFIX}*"'
_LINK = f"{_PORT} iifname != @free"
_TARGET = "@th,64,128"
"""The target of a neighbour solicitation or advertisement (RFC 4861 sections 4.3 and 4.4)."""

SETS = {
    "free": "type ifname",
    "macs": "type ifname . ether_addr",
    "ipv4": "type ifname . ether_addr . ipv4_addr",
    "ipv6": "type ifname . ether_addr . ipv6_addr",
    "targets": f"typeof iifname . {_TARGET}",
}
"""Links that are not checked; and by link, what the others may send as. nft compares targets as numbers."""

_CHAINS = f"""\
	chain prerouting {{
		type filter hook prerouting priority -300; policy accept;
		{_PORT} ether type ip iifname . ether saddr . ip saddr @ipv4 accept
		{_LINK} jump sender
	}}

	chain input {{
		type filter hook input priority -300; policy accept;
		ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 {_LINK} drop
	}}

	chain sender {{
		ether type ip6 goto from-ipv6
		ether type arp goto from-arp
		drop
	}}

	chain from-arp {{
		iifname . arp saddr ether != @macs drop
		iifname . ether saddr . arp saddr ip @ipv4 accept
		iifname . ether saddr @macs arp saddr ip 0.0.0.0 arp operation request accept
		drop
	}}

	chain from-ipv6 {{
		icmpv6 type nd-router-advert drop
		icmpv6 type nd-neighbor-advert iifname . {_TARGET} != @targets drop
		iifname . ether saddr . ip6 saddr @ipv6 accept
		ip6 saddr != :: drop
		iifname . ether saddr != @macs drop
		icmpv6 type nd-neighbor-solicit iifname . {_TARGET} @targets accept
		icmpv6 type {{ 131, 132, 133, 143 }} accept
		drop
	}}
"""
"""The bridge takes frames to link-local groups for itself behind `input`, and would learn their sender.

A container without an address yet asks for it (ARP probe: RFC 5227; neighbour solicitation from ::: RFC 4862) and
joins groups (MLD: 131, 132, 143), or looks for a router (133). IPv4 comes first: nearly all frames are that, and
each rule they meet costs them time.
"""

Element = tuple[str, tuple[str | Address, ...]]
"""An element: its set, and its parts, a link first."""


def elements(permits: Permits) -> Iterator[Element]:
    """Answer the elements of the table."""
    for host in permits.free:
        yield "free", (host,)
    for host, mac in permits.macs:
        yield "macs", (host, mac)
    for host, mac, address in permits.addresses:
        if isinstance(address, IPv4Address):
            yield "ipv4", (host, mac, address)
        else:
            yield "ipv6", (host, mac, address)
            yield "targets", (host, address)


def ruleset(permits: Permits) -> str:
    """Answer what to feed `nft -f -`: the whole table anew in one transaction."""
    members: dict[str, list[str]] = {name: [] for name in SETS}
    for name, (host, *owned) in sorted(elements(permits), key=str):
        rendered = [_number(part) if name == "targets" else str(part) for part in owned]
        members[name].append(" . ".join([f'"{host}"', *rendered]))
    sets = "".join(_set(name, members[name]) for name in SETS)
    return f"{REMOVAL}table {NAME} {{\n{sets}\n{_CHAINS}}}\n"


REMOVAL = f"add table {NAME}\ndelete table {NAME}\n"
"""What to feed `nft -f -` to be without the table."""


def _set(name: str, members: list[str]) -> str:
    listed = f"elements = {{ {', '.join(members)} }}; " if members else ""
    return f"\tset {name} {{ {SETS[name]}; {listed}}}\n"


def _number(address: str | Address) -> str:
    return "0x" + ip_address(address).packed.hex()
