# SPDX-License-Identifier: Apache-2.0
"""The bridges `d-NAME` that carry the Docker halves, and `m-NAME` that carry the Mesos halves."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv6Interface

from pyroute2.iproute import IPRoute

from dni_driver.core.errors import KernelError
from dni_driver.core.mac import mac_for
from dni_driver.core.names import mesos_bridge
from dni_driver.core.records import Interface
from dni_driver.core.wanted import Bridge
from dni_driver.kernel import addresses, connected, sysctl
from dni_driver.kernel.containers.links import UNFINISHED
from dni_driver.kernel.ledger import Ledger
from dni_driver.kernel.netlink.conversation import conversation, dump, tolerating
from dni_driver.kernel.snapshot import LinkDetails, Snapshot

FORWARDED_GROUPS = 0xFFF8
"""That frames to 01:80:c2:00:00:03 to :0f are no exception: the bridge would learn their senders unchecked."""
_STRICT, _LOOSE = "1", "2"
"""Of the bridge's own setting and the one for all links the greater one holds."""
_SHARED_PREFIX = mesos_bridge("")
_OURS = "dni overlay "
_SETTINGS = {"br_stp_state": 0, "br_forward_delay": 0, "br_group_fwd_mask": FORWARDED_GROUPS}
"""In this order: the kernel refuses a delay of 0 while the spanning tree protocol is on."""


def is_ours(link: LinkDetails) -> bool:
    """Tell whether a link is a bridge that dni made."""
    return link.kind == "bridge" and link.alias == _alias(link.name)


def _alias(bridge: str) -> str:
    return _OURS + bridge.partition("-")[2]


def concerned(wanted: Iterable[Bridge], seen: Snapshot) -> list[LinkDetails]:
    """Answer the bridges that dni made, and those wanted that a CNI plugin made."""
    shared = {bridge.name for bridge in wanted if bridge.shared}
    return [link for link in seen.bridges.values() if is_ours(link) or _is_adopted(link, shared)]


def _is_adopted(link: LinkDetails, shared: Collection[str]) -> bool:
    return link.name in shared and link.kind == "bridge"


def ours(seen: Snapshot) -> list[LinkDetails]:
    """Answer the bridges that dni made."""
    return [link for link in seen.bridges.values() if is_ours(link)]


def carried(link: LinkDetails, seen: Snapshot) -> tuple[Interface, ...]:
    """Answer the addresses of a bridge, but for those the kernel gives to every link."""
    there = seen.carried[link.index]
    return tuple(address for address in there if address.version == 4 or not address.is_link_local)  # noqa: PLR2004


def make(wanted: Iterable[Bridge], seen: Snapshot, ledger: Ledger) -> bool:
    """Make the bridges that are missing; tell whether there were any."""
    missing = [bridge for bridge in wanted if bridge.name not in seen.bridges]
    for bridge in missing:
        with ledger.about(f"bridge {bridge.name}", bridge.name), conversation() as kernel, tolerating(errno.EEXIST):
            _make(kernel, bridge)
            ledger.did(f"made bridge {bridge.name}")
    return bool(missing)


def _make(kernel: IPRoute, bridge: Bridge) -> None:
    """Make a bridge, and mark it as ours; until then it is unfinished, so that none is ever left without the mark."""
    kernel.link("add", ifname=bridge.name, kind="bridge", group=UNFINISHED, **_SETTINGS, **_mac(bridge))
    kernel.link("set", ifname=bridge.name, ifalias=_alias(bridge.name), mtu=bridge.mtu, group=0)


def _mac(bridge: Bridge) -> dict[str, str]:
    """Answer a MAC that follows from the gateway: containers that know it need not learn another."""
    return {"address": mac_for(bridge.addresses[0].ip)} if bridge.addresses else {}


def mend(wanted: Iterable[Bridge], seen: Snapshot, ledger: Ledger) -> None:
    """Give the bridges that are there their MTU, addresses and settings, and have them up."""
    for bridge in wanted:
        link = seen.bridges.get(bridge.name)
        if link is not None:
            with ledger.about(f"bridge {bridge.name}", bridge.name):
                _check_usable(bridge, link, seen)
                _mend_ipv6(bridge, ledger)
                _mend_reverse_path(bridge, ledger)
                _mend_link(bridge, link, ledger)
                _mend_addresses(bridge, link, set(carried(link, seen)), ledger)
                _mend_routes(bridge, link, ledger)


def _check_usable(bridge: Bridge, link: LinkDetails, seen: Snapshot) -> None:
    """Raise KernelError unless dni made a bridge, or a CNI plugin did that gave it no other address than dni does."""
    adopted = bridge.shared and link.kind == "bridge" and set(carried(link, seen)).issubset(bridge.addresses)
    if is_ours(link) or adopted:
        return
    there = ", ".join(str(address) for address in seen.carried[link.index]) or "no address"
    raise KernelError(
        f"{link.name} exists and dni did not make it: a {link.kind or 'plain'} device with {there}, as DC/OS or "
        f"another tool may have left it; remove it (`ip link del {link.name}`) or use another overlay name"
    )


def _mend_ipv6(bridge: Bridge, ledger: Ledger) -> None:
    """Let the bridge speak IPv6 at once where it has such an address, and learn no route from a container."""
    speaks = any(isinstance(address, IPv6Interface) for address in bridge.addresses)
    settings = {"accept_ra": "0", "accept_dad": "0", "disable_ipv6": "0" if speaks else "1"}
    changed = [sysctl.ensure(f"ipv6/conf/{bridge.name}/{key}", value) for key, value in settings.items()]
    if any(changed):
        ledger.did(f"bridge {bridge.name}: IPv6 {'on' if speaks else 'off'}, router advertisements ignored")


def _mend_reverse_path(bridge: Bridge, ledger: Ledger) -> None:
    """Take answers of containers on several networks, which leave by their default route, wherever they come in.

    A strict reverse path filter drops them. Who sends what is checked on each container link.
    """
    settings = {sysctl.read(f"ipv4/conf/{name}/rp_filter") for name in ("all", bridge.name)}
    if _STRICT in settings and _LOOSE not in settings:
        sysctl.write(f"ipv4/conf/{bridge.name}/rp_filter", _LOOSE)
        ledger.did(f"bridge {bridge.name}: reverse path filter loose")


def _mend_link(bridge: Bridge, link: LinkDetails, ledger: Ledger) -> None:
    wrong = list(_faults(bridge, link))
    if wrong:
        with conversation() as kernel:
            for setting, value in _SETTINGS.items():
                kernel.link("set", index=link.index, kind="bridge", **{setting: value})
            kernel.link("set", index=link.index, mtu=bridge.mtu, state="up")
        ledger.did(f"bridge {bridge.name}: {', '.join(wrong)}")


def _faults(bridge: Bridge, link: LinkDetails) -> Iterator[str]:
    if not link.up:
        yield "set up"
    if link.mtu != bridge.mtu:
        yield f"MTU {bridge.mtu} instead of {link.mtu}"
    if link.stp or link.forward_delay:
        yield "spanning tree off, no forward delay"
    if link.groups != FORWARDED_GROUPS:
        yield "frames to link-local groups treated as others"


def _mend_addresses(bridge: Bridge, link: LinkDetails, there: set[Interface], ledger: Ledger) -> None:
    missing = [address for address in _sayable(bridge) if address not in there]
    strange = there.difference(bridge.addresses)
    if not missing and not strange:
        return
    with conversation() as kernel:
        _put(kernel, link, missing)
        for address in missing:
            ledger.did(f"bridge {bridge.name}: address {address} added")
        for address in strange:
            with tolerating(errno.EADDRNOTAVAIL):
                kernel.addr("del", index=link.index, **addresses.described(address))
            ledger.did(f"bridge {bridge.name}: address {address} removed")
        if strange:
            # One of the same subnet that was there before ours has taken ours along.
            _put(kernel, link, _sayable(bridge))


def _put(kernel: IPRoute, link: LinkDetails, wanted: Iterable[Interface]) -> None:
    for address in wanted:
        with tolerating(errno.EEXIST):
            kernel.addr("replace", index=link.index, **addresses.described(address))


def _mend_routes(bridge: Bridge, link: LinkDetails, ledger: Ledger) -> None:
    for network in connected.mend(link.index, _sayable(bridge)):
        ledger.did(f"bridge {bridge.name}: route to {network} put back")


def _sayable(bridge: Bridge) -> Iterator[Interface]:
    """Answer the addresses that this kernel can have: booted without IPv6, it still serves IPv4."""
    has_ipv6 = sysctl.read(f"ipv6/conf/{bridge.name}/disable_ipv6") is not None
    return (address for address in bridge.addresses if has_ipv6 or address.version == 4)  # noqa: PLR2004


def delete_unwanted(wanted: Iterable[Bridge], seen: Snapshot, ledger: Ledger) -> None:
    """Delete the bridges of ours that no record calls for, but none that has a CNI plugin's containers on it."""
    names = {bridge.name for bridge in wanted}
    for link in ours(seen):
        if link.name not in names and not (link.name.startswith(_SHARED_PREFIX) and _has_ports(link)):
            with ledger.about(f"bridge {link.name}", link.name), conversation() as kernel:
                with tolerating(errno.ENODEV):
                    kernel.link("del", index=link.index)
                ledger.did(f"deleted bridge {link.name}")


def _has_ports(bridge: LinkDetails) -> bool:
    """Tell whether links hang on a bridge; those of dead containers of ours are deleted already."""
    with conversation() as kernel:
        masters = dump(kernel.link, lambda port: port.get("master"), family=socket.AF_BRIDGE)
    return bridge.index in masters
