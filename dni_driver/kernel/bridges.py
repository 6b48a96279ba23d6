# SPDX-License-Identifier: Apache-2.0
"""The bridges `d-NAME` that carry the Docker halves."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Interface

from dni_driver.core.errors import KernelError
from dni_driver.core.mac import mac_for
from dni_driver.core.names import docker_bridge
from dni_driver.core.records import Interface
from dni_driver.core.wanted import Bridge
from dni_driver.kernel import sysctl
from dni_driver.kernel.ledger import Ledger
from dni_driver.kernel.links import mac_bytes
from dni_driver.kernel.netlink import CREATE, EXCLUSIVE, REPLACE, Message, Netlink, nest, number, raw, text
from dni_driver.kernel.snapshot import (
    ADDRESS,
    ADDRESS_HEADER,
    ALIAS,
    DELADDR,
    DELLINK,
    INFO_DATA,
    INFO_KIND,
    LINKINFO,
    MTU,
    NAME,
    NEWADDR,
    NEWLINK,
    LinkState,
    Snapshot,
    link_body,
)

_PREFIX = docker_bridge("")
_OURS = "dni overlay "
_STP, _FORWARD_DELAY = 5, 1
_OFF = (_STP, _FORWARD_DELAY)
"""In this order: the kernel refuses a delay of 0 while the spanning tree protocol is on."""
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NO_DUPLICATE_DETECTION = 0x02
_INET, _INET6 = 2, 10


def is_ours(link: LinkState) -> bool:
    """Tell whether a link is a bridge that dni made."""
    return link.kind == "bridge" and link.name.startswith(_PREFIX) and link.alias == _alias(link.name)


def _alias(bridge: str) -> str:
    return _OURS + bridge.removeprefix(_PREFIX)


def ours(seen: Snapshot) -> list[LinkState]:
    """Answer the bridges that dni made."""
    return [link for link in seen.links.values() if is_ours(link)]


def carried(link: LinkState, seen: Snapshot) -> tuple[Interface, ...]:
    """Answer the addresses of a bridge, but for those the kernel gives to every link."""
    return tuple(address for address in seen.addresses(link) if address.version == 4 or not address.is_link_local)  # noqa: PLR2004


def make(wanted: Iterable[Bridge], seen: Snapshot, ledger: Ledger) -> bool:
    """Make the bridges that are missing; tell whether there were any."""
    missing = [bridge for bridge in wanted if bridge.name not in seen.links]
    for bridge in missing:
        with ledger.about(f"bridge {bridge.name}"), Netlink() as kernel:
            kernel.ask(*_creation(bridge))
            ledger.did(f"made bridge {bridge.name}")
    return bool(missing)


def _creation(bridge: Bridge) -> tuple[Message, Message]:
    """Pack a bridge and its alias: in one system call, so that none is ever left without."""
    made = text(NAME, bridge.name) + _mac(bridge) + _info(*_OFF)
    marked = text(NAME, bridge.name) + text(ALIAS, _alias(bridge.name)) + number(MTU, bridge.mtu)
    return (
        Message(NEWLINK, CREATE | EXCLUSIVE, link_body(attributes=made)),
        Message(NEWLINK, 0, link_body(attributes=marked)),
    )


def _mac(bridge: Bridge) -> bytes:
    """Pack a MAC that follows from the gateway: containers that know it need not learn another."""
    return raw(ADDRESS, mac_bytes(mac_for(bridge.addresses[0].ip))) if bridge.addresses else b""


def mend(wanted: Iterable[Bridge], seen: Snapshot, ledger: Ledger) -> None:
    """Give the bridges that are there their MTU, addresses and settings, and have them up."""
    for bridge in wanted:
        link = seen.links.get(bridge.name)
        if link is not None:
            with ledger.about(f"bridge {bridge.name}"), Netlink() as kernel:
                _check_ours(link, seen)
                _mend_link(kernel, bridge, link, ledger)
                _mend_addresses(kernel, bridge, link.index, set(carried(link, seen)), ledger)


def _check_ours(link: LinkState, seen: Snapshot) -> None:
    if is_ours(link):
        return
    carried = ", ".join(str(address) for address in seen.addresses(link)) or "no address"
    raise KernelError(
        f"{link.name} exists and dni did not make it: a {link.kind or 'plain'} device with {carried}, as DC/OS or "
        f"another tool may have left it; remove it (`ip link del {link.name}`) or use another overlay name"
    )


def _mend_link(kernel: Netlink, bridge: Bridge, link: LinkState, ledger: Ledger) -> None:
    _mend_ipv6(bridge, ledger)
    wrong = list(_faults(bridge, link))
    if wrong:
        kernel.ask(*(_change(link, _info(setting)) for setting in _OFF), _change(link, number(MTU, bridge.mtu)))
        ledger.did(f"bridge {bridge.name}: {', '.join(wrong)}")


def _faults(bridge: Bridge, link: LinkState) -> Iterator[str]:
    if not link.up:
        yield "set up"
    if link.mtu != bridge.mtu:
        yield f"MTU {bridge.mtu} instead of {link.mtu}"
    if any(link.settings.get(setting) for setting in _OFF):
        yield "spanning tree off, no forward delay"


def _info(*off: int) -> bytes:
    return nest(LINKINFO, text(INFO_KIND, "bridge"), nest(INFO_DATA, *(number(setting, 0) for setting in off)))


def _change(link: LinkState, attribute: bytes) -> Message:
    return Message(NEWLINK, 0, link_body(link.index, up=True, attributes=attribute))


def _mend_ipv6(bridge: Bridge, ledger: Ledger) -> None:
    """Let the bridge speak IPv6 at once where it has such an address, and learn no route from a container."""
    speaks = any(isinstance(address, IPv6Interface) for address in bridge.addresses)
    settings = {"accept_ra": "0", "accept_dad": "0", "disable_ipv6": "0" if speaks else "1"}
    changed = [sysctl.ensure(f"ipv6/conf/{bridge.name}/{key}", value) for key, value in settings.items()]
    if any(changed):
        ledger.did(f"bridge {bridge.name}: IPv6 {'on' if speaks else 'off'}, router advertisements ignored")


def _mend_addresses(kernel: Netlink, bridge: Bridge, index: int, there: set[Interface], ledger: Ledger) -> None:
    for address in bridge.addresses:
        if address not in there:
            _tolerating(kernel, _addition(index, address), errno.EEXIST)
            ledger.did(f"bridge {bridge.name}: address {address} added")
    for address in there.difference(bridge.addresses):
        _tolerating(kernel, Message(DELADDR, 0, _address_body(index, address)), errno.EADDRNOTAVAIL)
        ledger.did(f"bridge {bridge.name}: address {address} removed")


def _addition(index: int, address: Interface) -> Message:
    return Message(NEWADDR, CREATE | REPLACE, _address_body(index, address))


def _address_body(index: int, address: Interface) -> bytes:
    is6 = isinstance(address, IPv6Interface)
    header = ADDRESS_HEADER.pack(
        _INET6 if is6 else _INET, address.network.prefixlen, _NO_DUPLICATE_DETECTION if is6 else 0, 0, index
    )
    return header + raw(_IFA_LOCAL, address.packed) + raw(_IFA_ADDRESS, address.packed)


def _tolerating(kernel: Netlink, message: Message, number: int) -> None:
    try:
        kernel.ask(message)
    except OSError as error:
        if error.errno != number:
            raise


def delete_unwanted(wanted: Iterable[Bridge], seen: Snapshot, ledger: Ledger) -> None:
    """Delete the bridges of ours that no record calls for."""
    names = {bridge.name for bridge in wanted}
    for link in ours(seen):
        if link.name not in names:
            with ledger.about(f"bridge {link.name}"), Netlink() as kernel:
                _tolerating(kernel, Message(DELLINK, 0, link_body(link.index)), errno.ENODEV)
                ledger.did(f"deleted bridge {link.name}")
