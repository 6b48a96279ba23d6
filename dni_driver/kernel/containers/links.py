# SPDX-License-Identifier: Apache-2.0
"""Container links: the veth pairs between a bridge and the sandboxes."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from pyroute2.iproute import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ifinfmsg import BRIDGE_MODE_HAIRPIN, IFF_UP

from dni_driver.core.errors import BridgeMissing, KernelError
from dni_driver.core.wanted import Link
from dni_driver.kernel.ledger import Ledger, in_words
from dni_driver.kernel.netlink import rtnetlink
from dni_driver.kernel.netlink.conversation import conversation, tolerating
from dni_driver.kernel.snapshot import LinkState, Snapshot, find

DOOMED = 0x646E69
"""The device group ("dni") of links that are to be deleted."""
UNFINISHED = 0x646E6A
"""The device group of what is being made, by whoever holds the lock of `Kernel`; what was finished is in group 0."""

_HAIRPIN = {"kind": "bridge_slave", "mode": BRIDGE_MODE_HAIRPIN}
_NO_ADDRESSES = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}
"""That the kernel give a link no IPv6 address of its own making."""

_LISTED = 5
"""Names in one message at the most."""


def attach(link: Link) -> None:
    """Make a link's veth pair, host end up on its bridge with hairpin; finish what is there already.

    Raises BridgeMissing where there is no such bridge, KernelError for anything else the kernel refuses.
    """
    bridge = _bridge_index(link.bridge)
    try:
        rtnetlink.make(link, bridge)
    except OSError:
        _attach_in_steps(link, bridge)


def is_here(name: str) -> bool:
    """Tell whether this namespace has a link of a name."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def _attach_in_steps(link: Link, bridge: int) -> None:
    """Make a pair whatever there is of it already, or say why not."""
    try:
        with conversation() as kernel:
            if _made(kernel, link, bridge):
                set_up(kernel, link.host, **_HAIRPIN)
            else:
                finish(kernel, link, bridge)
    except OSError as error:
        raise KernelError(f"link {link.host} on {link.bridge} cannot be made: {in_words(error)}") from error


def _bridge_index(bridge: str) -> int:
    try:
        return socket.if_nametoindex(bridge)
    except OSError:
        raise BridgeMissing(f"bridge {bridge} is missing on this host: `dni repair` makes it again") from None


def _made(kernel: IPRoute, link: Link, bridge: int) -> bool:
    """Make a pair with its host end on the bridge; False where there is such a link already."""
    with tolerating(errno.EEXIST) as refused:
        kernel.link("add", master=bridge, **_pair(link, {"ifname": link.container}))
    return not refused


def _pair(link: Link, peer: dict[str, Any]) -> dict[str, Any]:
    return {
        "ifname": link.host,
        "kind": "veth",
        "mtu": link.mtu,
        "peer": {**peer, "mtu": link.mtu, "address": link.mac},
    }


def set_up(kernel: IPRoute, name: str, **settings: str | int) -> None:
    """Set a link up; the kernel's IPv6 addresses cannot be declined where it speaks no IPv6 anyway."""
    wanted = {"ifname": name, "flags": IFF_UP, "change": IFF_UP, **settings}
    try:
        kernel.link("set", af_spec=_NO_ADDRESSES, **wanted)
    except NetlinkError:
        kernel.link("set", **wanted)


def finish(kernel: IPRoute, link: Link, bridge: int) -> None:
    """Make an existing pair what `attach` would have made; raise KernelError for a stranger."""
    host = find(kernel, ifname=link.host)
    if host is None or host.kind != "veth":
        raise KernelError(f"link {link.host} is taken by a device that is no veth: `ip link del {link.host}`")
    kernel.link("set", index=host.index, mtu=link.mtu, group=0, master=bridge)
    set_up(kernel, link.host, **_HAIRPIN)
    if host.peer_namespace is None and find(kernel, ifname=link.container):
        kernel.link("set", ifname=link.container, mtu=link.mtu, address=link.mac)


def renew(link: Link, name: str, sandbox: int, furnish: Callable[[], None]) -> None:
    """Make a pair whose container end is born with a name in its sandbox, an open namespace; raise OSError.

    It is unfinished until `furnish` has made that end whole: one cut short is deleted by the next reconcile.
    """
    bridge = _bridge_index(link.bridge)
    with conversation() as kernel:
        kernel.link("add", group=UNFINISHED, **_pair(link, {"ifname": name, "net_ns_fd": sandbox}))
        set_up(kernel, link.host)
        furnish()
        finish(kernel, link, bridge)


def delete(names: Collection[str]) -> None:
    """Delete links, all in the time of one; those that are gone are as good as deleted. Raises OSError.

    Each deletion waits for the kernel's readers once; of a device group it waits once for all.
    """
    rtnetlink.delete(sorted(names), DOOMED)


def _delete_group(kernel: IPRoute, group: int) -> bool:
    """Delete all links of a device group; tell whether there were any."""
    with tolerating(errno.ENODEV, errno.ESRCH) as refused:
        kernel.link("del", group=group)
    return not refused


def sweep(seen: Snapshot, ledger: Ledger) -> Snapshot:
    """Delete what was cut short: deletions, and what was being made. Answer what is left."""
    with ledger.about("links cut short"), conversation() as kernel:
        swept = [_delete_group(kernel, group) for group in (DOOMED, UNFINISHED)]
        if not any(swept):
            return seen
    left = seen.left()
    if gone := [name for name in (*seen.host_ends, *seen.ifbs, *seen.bridges) if name not in left.names]:
        ledger.tidied(f"deleted dead links: {listed(gone)}")
    return left


def delete_dead(wanted: Iterable[Link], seen: Snapshot, ledger: Ledger) -> None:
    """Delete the host ends that no record calls for."""
    hosts = {link.host for link in wanted}
    dead = [name for name in seen.host_ends if name not in hosts]
    if dead:
        with ledger.about(f"dead links {listed(dead)}"):
            delete(dead)
            ledger.tidied(f"deleted dead links: {listed(dead)}")


def listed(names: Sequence[str]) -> str:
    """Name links in a message, but not hundreds of them."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def mend(wanted: Iterable[Link], seen: Snapshot, resize: Callable[[Link], None], ledger: Ledger) -> set[str]:
    """Put the host ends that are there back on their bridges, up, with hairpin and the right MTU.

    `resize` gives the container end that MTU. It comes first: the host end, which is seen, tells that both are done.
    Answers the bridges that one was put back on.
    """
    joined = set()
    for link in wanted:
        host, bridge = seen.host_ends.get(link.host), seen.names.get(link.bridge)
        if host is None or bridge is None:
            continue
        wrong = list(_faults(link, host, bridge))
        if wrong:
            with ledger.about(f"link {link.host}", link.bridge), conversation() as kernel:
                if host.mtu != link.mtu:
                    resize(link)
                finish(kernel, link, bridge)
                ledger.did(f"mended link {link.host} on {link.bridge}: {', '.join(wrong)}")
                if host.master != bridge:
                    joined.add(link.bridge)
    return joined


def _faults(link: Link, host: LinkState, bridge: int) -> Iterator[str]:
    if host.master != bridge:
        yield "was on no bridge" if not host.master else "was on another bridge"
    elif not host.hairpin:
        yield "had no hairpin"
    if not host.up:
        yield "was down"
    if host.mtu != link.mtu:
        yield f"had MTU {host.mtu}, now {link.mtu}"
