# SPDX-License-Identifier: Apache-2.0
"""Container links: the veth pairs between a bridge and the sandboxes."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence

from dni_driver.core.errors import BridgeMissing, KernelError
from dni_driver.core.names import HOST_LINK_PREFIX
from dni_driver.core.wanted import Link
from dni_driver.kernel.ledger import Ledger, in_words
from dni_driver.kernel.netlink import CREATE, EXCLUSIVE, Message, Netlink, nest, number, octet, raw, text
from dni_driver.kernel.snapshot import (
    ADDRESS,
    DELLINK,
    GROUP,
    INFO_DATA,
    INFO_KIND,
    INFO_SLAVE_DATA,
    INFO_SLAVE_KIND,
    LINKINFO,
    MASTER,
    MTU,
    NAME,
    NEWLINK,
    PORT_MODE,
    LinkState,
    Snapshot,
    find,
    link_body,
)

DOOMED = 0x646E69
"""The device group ("dni") of links that are to be deleted, or not yet finished; 0 is everybody's."""

_VETH_PEER = 1
_AF_SPEC, _AF_INET6, _ADDR_GEN_MODE, _NO_ADDRESSES = 26, 10, 8, 1
_HOST_END = re.compile(rf"{HOST_LINK_PREFIX}[0-9a-f]{{11}}")

_LISTED = 5
"""Names in one message at the most."""


def attach(link: Link) -> None:
    """Make a link's veth pair, host end up on its bridge with hairpin; finish what is there already.

    Raises BridgeMissing where there is no such bridge, KernelError for anything else the kernel refuses.
    """
    bridge = _bridge_index(link.bridge)
    try:
        with Netlink() as kernel:
            made, _, dressed = kernel.attempt(_pair(link, bridge), _quiet(link.host), _dress(link.host))
            if made is not None and made.errno == errno.EEXIST:
                finish(kernel, link, bridge)
            elif made is not None or dressed is not None:
                raise made or dressed or AssertionError
    except OSError as error:
        raise KernelError(f"link {link.host} on {link.bridge} cannot be made: {in_words(error)}") from error


def _bridge_index(bridge: str) -> int:
    try:
        return socket.if_nametoindex(bridge)
    except OSError:
        raise BridgeMissing(f"bridge {bridge} is missing on this host: `dni repair` makes it again") from None


def _pair(link: Link, bridge: int) -> Message:
    peer = text(NAME, link.container) + number(MTU, link.mtu) + raw(ADDRESS, mac_bytes(link.mac))
    return _new_pair(link, link_body(attributes=peer), number(MASTER, bridge))


def _new_pair(link: Link, peer: bytes, *host: bytes) -> Message:
    info = nest(LINKINFO, text(INFO_KIND, "veth"), nest(INFO_DATA, raw(_VETH_PEER, peer)))
    attributes = b"".join((text(NAME, link.host), number(MTU, link.mtu), *host, info))
    return Message(NEWLINK, CREATE | EXCLUSIVE, link_body(attributes=attributes))


def mac_bytes(mac: str) -> bytes:
    """Answer the six bytes of a MAC address."""
    return bytes.fromhex(mac.replace(":", ""))


def _quiet(host: str) -> Message:
    """Pack that the kernel give a link no IPv6 address of its own making; refused where it speaks no IPv6 anyway."""
    return _changed(host, nest(_AF_SPEC, nest(_AF_INET6, octet(_ADDR_GEN_MODE, _NO_ADDRESSES))))


def _dress(host: str) -> Message:
    """Pack what can only be said of a port that exists: hairpin, and up."""
    port = nest(LINKINFO, text(INFO_SLAVE_KIND, "bridge"), nest(INFO_SLAVE_DATA, octet(PORT_MODE, 1)))
    return _changed(host, port, up=True)


def finish(kernel: Netlink, link: Link, bridge: int) -> None:
    """Make an existing pair what `attach` would have made; raise OSError, or KernelError for a stranger."""
    host = find(kernel, link.host)
    if host is None or host.kind != "veth":
        raise KernelError(f"link {link.host} is taken by a device that is no veth: `ip link del {link.host}`")
    kernel.attempt(_quiet(link.host))
    kernel.ask(_enslave(link, bridge), _dress(link.host))
    if host.peer_namespace is None and find(kernel, link.container):
        kernel.ask(_changed(link.container, number(MTU, link.mtu), raw(ADDRESS, mac_bytes(link.mac))))


def renew(link: Link, peer: bytes, furnish: Callable[[], None]) -> None:
    """Make a pair whose container end is born in its sandbox, as `peer` says; raise OSError.

    It is doomed until `furnish` has made that end whole: one cut short is deleted by the next reconcile.
    """
    bridge = _bridge_index(link.bridge)
    with Netlink() as kernel:
        kernel.ask(_new_pair(link, peer, number(GROUP, DOOMED)))
        kernel.attempt(_quiet(link.host))
        kernel.ask(_changed(link.host, up=True))
        furnish()
        finish(kernel, link, bridge)


def _enslave(link: Link, bridge: int) -> Message:
    return _changed(link.host, number(MTU, link.mtu), number(GROUP, 0), number(MASTER, bridge))


def _changed(name: str, *attributes: bytes, up: bool | None = None) -> Message:
    return Message(NEWLINK, 0, link_body(up=up, attributes=text(NAME, name) + b"".join(attributes)))


def delete(names: Iterable[str]) -> None:
    """Delete links, all in the time of one; those that are gone are as good as deleted.

    Each deletion waits for the kernel's readers once; of a device group it waits once for all. Raises OSError.
    """
    with Netlink() as kernel:
        marked = kernel.attempt(*(_changed(name, number(GROUP, DOOMED)) for name in names))
        _raise_unless_gone(marked)
        if None in marked:
            _raise_unless_gone(kernel.attempt(Message(DELLINK, 0, link_body(attributes=number(GROUP, DOOMED)))))


def _raise_unless_gone(errors: Iterable[OSError | None]) -> None:
    for error in errors:
        if error is not None and error.errno not in (errno.ENODEV, errno.ESRCH):
            raise error


def host_ends(seen: Snapshot) -> Mapping[str, LinkState]:
    """Answer the host ends of container links that there are."""
    return {name: link for name, link in seen.links.items() if link.kind == "veth" and _HOST_END.fullmatch(name)}


def delete_dead(wanted: Iterable[Link], seen: Snapshot, ledger: Ledger) -> None:
    """Delete the host ends that no record calls for, and those of deletions or repairs cut short."""
    hosts = {link.host for link in wanted}
    dead = [name for name, link in host_ends(seen).items() if name not in hosts or link.group == DOOMED]
    if dead:
        with ledger.about(f"dead links {_listed(dead)}"):
            delete(dead)
            ledger.did(f"deleted dead links: {_listed(dead)}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def mend(wanted: Iterable[Link], seen: Snapshot, ledger: Ledger) -> None:
    """Put the host ends that are there back on their bridges, up, with hairpin and the right MTU."""
    for link in wanted:
        host, bridge = seen.links.get(link.host), seen.index(link.bridge)
        if host is None or bridge is None or host.group == DOOMED:
            continue
        wrong = list(_faults(link, host, bridge))
        if wrong:
            with ledger.about(f"link {link.host}"), Netlink() as kernel:
                finish(kernel, link, bridge)
                ledger.did(f"mended link {link.host} on {link.bridge}: {', '.join(wrong)}")


def _faults(link: Link, host: LinkState, bridge: int) -> Iterable[str]:
    if host.master != bridge:
        yield "was on no bridge" if not host.master else "was on another bridge"
    elif not host.hairpin:
        yield "had no hairpin"
    if not host.up:
        yield "was down"
    if host.mtu != link.mtu:
        yield f"had MTU {host.mtu}, now {link.mtu}"
