# SPDX-License-Identifier: Apache-2.0
"""The links of this network namespace that concern dni, as values.

A host has many links, and few of them are ours: those are found by their names, which cost next to nothing. The
host ends of container links are read as the bridge ports they are: the kernel tells all of them in one answer, and
much less about each than about a link.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
from pyroute2.iproute import IPRoute
from pyroute2.netlink.rtnl.ifinfmsg import BRIDGE_MODE_HAIRPIN, IFF_UP

from dni_driver.core.names import EGRESS_LINK_PREFIX, HOST_LINK_PREFIX, docker_bridge, mesos_bridge
from dni_driver.core.records import Interface
from dni_driver.kernel import addresses
from dni_driver.kernel.netlink.conversation import Message, conversation, dump, tolerating

_HOST_END = re.compile(rf"{HOST_LINK_PREFIX}[0-9a-f]{{11}}")
_IFB = re.compile(rf"{EGRESS_LINK_PREFIX}[0-9a-f]{{11}}")
_BRIDGE_PREFIXES = (docker_bridge(""), mesos_bridge(""))
_WITHOUT_STATISTICS = 8


class LinkState(msgspec.Struct, frozen=True, kw_only=True):
    """A link as the kernel has it.

    `master` is the index of its bridge, 0 where it has none; `hairpin` tells that it is a port which sends frames
    back where they came from.
    """

    index: int
    name: str
    up: bool
    mtu: int
    master: int
    hairpin: bool


class LinkDetails(LinkState, frozen=True, kw_only=True):
    """All that is ever asked of a link.

    `stp`, `forward_delay` and `groups` (the link-local ones it forwards to, as bits) are a bridge's, 0 elsewhere;
    `peer` is the index of a veth's other end, and `peer_namespace` the number this namespace has for the one that
    end is in, None where it is in this one.
    """

    kind: str
    alias: str
    stp: int
    forward_delay: int
    groups: int
    peer: int
    peer_namespace: int | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The names of all links with their indexes, and our links by name.

    `host_ends` are the ends of container links on this host, `ifbs` what holds some of them back, `bridges` all links
    called like a bridge of ours, and `carried` the addresses of those bridges, with their masks, by index.
    """

    names: dict[str, int]
    host_ends: dict[str, LinkState]
    ifbs: dict[str, LinkDetails]
    bridges: dict[str, LinkDetails]
    carried: dict[int, list[Interface]]

    def left(self) -> Snapshot:
        """Answer what is there still."""
        known = names()
        return Snapshot(
            names=known,
            host_ends={name: link for name, link in self.host_ends.items() if name in known},
            ifbs={name: link for name, link in self.ifbs.items() if name in known},
            bridges={name: link for name, link in self.bridges.items() if name in known},
            carried=self.carried,
        )


def read() -> Snapshot:
    """Read the names of all links, then what the names tell to be ours."""
    known = names()
    with conversation() as kernel:
        bridges = _details(kernel, (name for name in known if name.startswith(_BRIDGE_PREFIXES)))
        host_ends = _host_ends(kernel, known)
        ifbs = _details(kernel, (name for name in known if _IFB.fullmatch(name)))
        carried: dict[int, list[Interface]] = {link.index: [] for link in bridges}
        for index, address in addresses.read(kernel, carried):
            carried[index].append(address)
    return Snapshot(
        names=known,
        host_ends={link.name: link for link in host_ends},
        ifbs={link.name: link for link in ifbs if link.kind == "ifb"},
        bridges={link.name: link for link in bridges},
        carried=carried,
    )


def names() -> dict[str, int]:
    """Answer the names of all links, with their indexes."""
    return {name: index for index, name in socket.if_nameindex()}


def _host_ends(kernel: IPRoute, known: Iterable[str]) -> list[LinkState]:
    """Read the ports among the host ends all at once, then one by one the few that hang in the air."""
    ends = {name for name in known if _HOST_END.fullmatch(name)}
    ports = dump(kernel.link, partial(_port, ends), family=socket.AF_BRIDGE) if ends else []
    loose = ends.difference(port.name for port in ports)
    return [*ports, *(link for link in _details(kernel, loose) if link.kind == "veth")]


def _port(ends: Collection[str], message: Message) -> LinkState | None:
    """Read a port that is one of these ends: it has another end, and that tells a veth from most strangers."""
    name = message.get("ifname")
    if name not in ends or message.get("link") is None:
        return None
    return LinkState(hairpin=message.get(("protinfo", "mode")) == BRIDGE_MODE_HAIRPIN, **_state(message))


def _state(message: Message) -> dict[str, Any]:
    return {
        "index": message["index"],
        "name": message.get("ifname"),
        "up": bool(message["flags"] & IFF_UP),
        "mtu": message.get("mtu"),
        "master": message.get("master", 0),
    }


def _details(kernel: IPRoute, known: Iterable[str]) -> list[LinkDetails]:
    return [link for name in known if (link := find(kernel, ifname=name))]


def find(kernel: IPRoute, **description: str | int) -> LinkDetails | None:
    """Read one link: by its `ifname`, or by its `index` in the namespace that has the number `if_netnsid` here."""
    found: Sequence[Message] = ()
    with tolerating(errno.ENODEV):
        found = kernel.link("get", ext_mask=_WITHOUT_STATISTICS, **description)
    return next(map(_link, found), None)


def _link(message: Message) -> LinkDetails:
    return LinkDetails(
        hairpin=message.get(("linkinfo", "slave_data", "mode")) == BRIDGE_MODE_HAIRPIN,
        kind=message.get(("linkinfo", "kind"), ""),
        alias=message.get("ifalias", ""),
        stp=message.get(("linkinfo", "data", "br_stp_state"), 0),
        forward_delay=message.get(("linkinfo", "data", "br_forward_delay"), 0),
        groups=message.get(("linkinfo", "data", "br_group_fwd_mask"), 0),
        peer=message.get("link", 0),
        peer_namespace=message.get("link_netnsid"),
        **_state(message),
    )
