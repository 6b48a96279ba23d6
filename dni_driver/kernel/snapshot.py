# SPDX-License-Identifier: Apache-2.0
"""The links and addresses of this network namespace, as values."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cached_property
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

import msgspec

from dni_driver.core.records import Interface
from dni_driver.kernel.netlink import Answer, Message, Netlink, as_number, as_text, number, text, unpack

NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22

LINK_HEADER = struct.Struct("=BxHiII")
"""Family, device type, index, flags, which flags change."""
ADDRESS_HEADER = struct.Struct("=BBBBI")
"""Family, prefix length, flags, scope, index."""

IFF_UP = 1
ADDRESS, NAME, MTU, PEER, MASTER, LINKINFO, ALIAS = 1, 3, 4, 5, 10, 18, 20
GROUP, EXT_MASK, PEER_NAMESPACE, TARGET_NAMESPACE = 27, 29, 37, 46
INFO_KIND, INFO_DATA, INFO_SLAVE_KIND, INFO_SLAVE_DATA = 1, 2, 4, 5
PORT_MODE = 4
"""Bridge port attribute: hairpin."""
_WITHOUT_STATISTICS = 8
_IFA_ADDRESS, _IFA_LOCAL = 1, 2


class LinkState(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A link as the kernel has it.

    `master` is the index of its bridge, 0 where it has none; `peer` the index of a veth's other end, and
    `peer_namespace` the number this namespace has for the one that end is in, None where it is in this one.
    """

    index: int
    name: str
    kind: str
    up: bool
    mtu: int
    mac: str
    master: int
    group: int
    alias: str
    peer: int
    peer_namespace: int | None
    details: bytes

    @cached_property
    def hairpin(self) -> bool:
        """Tell whether it is a bridge port that sends frames back where they came from."""
        port = unpack(unpack(self.details).get(INFO_SLAVE_DATA, b""))
        return as_number(port, PORT_MODE) == 1

    @cached_property
    def settings(self) -> dict[int, int]:
        """Answer the numbers its kind keeps for it (a bridge: STP, delays, ...)."""
        info = unpack(unpack(self.details).get(INFO_DATA, b""))
        return {kind: as_number(info, kind) for kind in info}


class Snapshot:
    """All links and addresses at one moment."""

    def __init__(self, links: Iterable[LinkState], addresses: Iterable[tuple[int, Interface]]) -> None:
        """Keep links by name, and addresses by the index of their link."""
        self.links = {link.name: link for link in links}
        self._names = {link.index: link.name for link in self.links.values()}
        self._addresses: dict[int, list[Interface]] = {}
        for index, address in addresses:
            self._addresses.setdefault(index, []).append(address)

    def name(self, index: int) -> str | None:
        """Answer the name of the link with an index."""
        return self._names.get(index)

    def index(self, name: str) -> int | None:
        """Answer the index of the link with a name."""
        link = self.links.get(name)
        return link.index if link else None

    def addresses(self, link: LinkState) -> list[Interface]:
        """Answer a link's addresses with their masks."""
        return self._addresses.get(link.index, [])


def read() -> Snapshot:
    """Read all links, then all addresses."""
    with Netlink() as kernel:
        links = kernel.dump(GETLINK, link_body(attributes=number(EXT_MASK, _WITHOUT_STATISTICS)))
        addresses = kernel.dump(GETADDR, ADDRESS_HEADER.pack(0, 0, 0, 0, 0))
    return Snapshot(map(_link, links), map(_address, addresses))


def find(kernel: Netlink, name: str) -> LinkState | None:
    """Read one link by its name."""
    return _one(kernel, link_body(attributes=text(NAME, name)))


def find_elsewhere(kernel: Netlink, index: int, namespace: int) -> LinkState | None:
    """Read one link by its index in another namespace, by the number this one has for that one."""
    return _one(kernel, link_body(index, attributes=number(TARGET_NAMESPACE, namespace)))


def _one(kernel: Netlink, body: bytes) -> LinkState | None:
    answer = kernel.get(Message(GETLINK, 0, body + number(EXT_MASK, _WITHOUT_STATISTICS)))
    return _link(answer) if answer else None


def link_body(index: int = 0, *, up: bool | None = None, attributes: bytes = b"") -> bytes:
    """Pack the body of a link request; `up` None leaves that as it is."""
    flags, change = (0, 0) if up is None else (IFF_UP if up else 0, IFF_UP)
    return LINK_HEADER.pack(0, 0, index, flags, change) + attributes


def _link(answer: Answer) -> LinkState:
    _, _, index, flags, _ = LINK_HEADER.unpack_from(answer.body)
    attributes = answer.attributes(LINK_HEADER.size)
    details = attributes.get(LINKINFO, b"")
    return LinkState(
        index=index,
        name=as_text(attributes, NAME),
        kind=as_text(unpack(details), INFO_KIND),
        up=bool(flags & IFF_UP),
        mtu=as_number(attributes, MTU),
        mac=attributes.get(ADDRESS, b"").hex(":"),
        master=as_number(attributes, MASTER),
        group=as_number(attributes, GROUP),
        alias=as_text(attributes, ALIAS),
        peer=as_number(attributes, PEER),
        peer_namespace=as_number(attributes, PEER_NAMESPACE) if PEER_NAMESPACE in attributes else None,
        details=details,
    )


def _address(answer: Answer) -> tuple[int, IPv4Interface | IPv6Interface]:
    _, prefix, _, _, index = ADDRESS_HEADER.unpack_from(answer.body)
    attributes = answer.attributes(ADDRESS_HEADER.size)
    packed = attributes.get(_IFA_LOCAL) or attributes[_IFA_ADDRESS]
    return index, ip_interface((packed, prefix))
