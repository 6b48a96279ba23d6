# SPDX-License-Identifier: Apache-2.0
"""The subnet that the VTEPs of a cluster come from: one for all agents, and where it may be another one."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from dni_driver.core.errors import Exhausted, InUse, Refused
from dni_driver.core.numbers import lowest_missing
from dni_driver.core.overlays import SPECIAL_RANGES, VTEP_SUBNET, Overlay, share_addresses
from dni_driver.core.peers import Vtep

WIDEST = 8
"""Bits: a VTEP's MAC has the low 24 of its address (DC/OS has the same bound)."""
LONGEST = 30
"""Bits: there is room for two agents."""


def chosen(wanted: IPv4Network | None, had: Vtep | None) -> IPv4Network:
    """Answer the subnet of a registry that has none yet: what the settings say, else the one that VTEPs had."""
    return wanted or (had.ip.network if had else VTEP_SUBNET)


def check_subnet(wanted: IPv4Network | None, default: Overlay) -> None:
    """Raise Refused where VTEPs could not come from a subnet, InUse where the default overlay lies there."""
    if wanted is None:
        return
    if not WIDEST <= wanted.prefixlen <= LONGEST:
        raise Refused(
            f"must be an IPv4 subnet of /{WIDEST} to /{LONGEST}: a VTEP's MAC has 24 bits of its address, and two "
            f"agents at the least need one"
        )
    if any(share_addresses(wanted, special) for special in SPECIAL_RANGES):
        raise Refused(f"must be a subnet of addresses that hosts may have, such as {VTEP_SUBNET}")
    check_apart(wanted, [default])


def kept(had: Vtep | None, subnet: IPv4Network) -> Vtep | None:
    """Answer the VTEP that an agent had, with the mask of all VTEPs; None where it had none of these."""
    return vtep_in(had.ip.ip, subnet) if had is not None and had.ip.ip in subnet else None


def vtep_in(address: IPv4Address, subnet: IPv4Network) -> Vtep:
    """Answer a VTEP with the mask of all VTEPs."""
    return Vtep(IPv4Interface((address, subnet.prefixlen)))


def lowest_free(taken: Iterable[IPv4Address], subnet: IPv4Network) -> Vtep:
    """Answer the lowest VTEP that no agent has, as the DC/OS master does; raise Exhausted."""
    start = int(subnet.network_address)
    number = lowest_missing((int(address) - start for address in taken), range(1, subnet.num_addresses - 1))
    if number is None:
        raise exhausted(subnet)
    return vtep_in(subnet.network_address + number, subnet)


def check_widening(now: IPv4Network, wanted: IPv4Network, overlays: Iterable[Overlay]) -> None:
    """Raise Refused where VTEPs of one subnet cannot come from another, InUse where an overlay lies there.

    A VTEP's place in the subnet is part of its IPv6 address: so the first address stays.
    """
    if wanted.network_address != now.network_address or wanted.prefixlen > now.prefixlen:
        raise Refused(
            f"the VTEPs of this registry come from {now}, and the settings of this host say {wanted}: leave that "
            f"out, or say {now}; a wider one that begins at {now.network_address} would be taken too"
        )
    check_apart(wanted, overlays)


def check_apart(subnet: IPv4Network, overlays: Iterable[Overlay]) -> None:
    """Raise InUse where an overlay has addresses of the VTEPs."""
    for overlay in overlays:
        for theirs in overlay.subnets():
            if share_addresses(subnet, theirs):
                raise InUse(
                    f"overlay {overlay.name!r} cannot have {theirs} while the agents' VTEPs come from {subnet}: "
                    f"choose another subnet, such as 10.64.0.0/16 for an overlay"
                )


def exhausted(subnet: IPv4Network) -> Exhausted:
    """Build the error of a subnet all of whose VTEPs are held."""
    room = f'; overlay.vtep_subnet = "{wider}" makes room' if (wider := _wider(subnet)) else ""
    return Exhausted(
        f"all {subnet.num_addresses - 2} VTEP addresses of {subnet} are held: `dni agent ls` lists the agents, "
        f"`dni agent forget IP` gives up one that is gone{room}"
    )


def _wider(subnet: IPv4Network) -> IPv4Network | None:
    """Answer a subnet of sixteen times as many addresses that begins with the same, or as many as there can be."""
    start = int(subnet.network_address)
    aligned = subnet.max_prefixlen - ((start & -start).bit_length() - 1 if start else 0)
    prefix = max(WIDEST, aligned, subnet.prefixlen - 4)
    return IPv4Network((start, prefix)) if prefix < subnet.prefixlen else None
