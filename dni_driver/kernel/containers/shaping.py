# SPDX-License-Identifier: Apache-2.0
"""Limits on what containers send and are sent: token buckets at the host ends of their links.

What is sent to a container leaves by the host end, and waits there in a bucket (qdisc `tbf`). What a container sends
comes in by the host end, where nothing can wait: it is handed to a device of its own that has a bucket, an `ifb`, and
goes on from there as if it had just come in.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec
from pyroute2.iproute import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import TC_H_INGRESS, TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg.common import get_rate_parameters
from pyroute2.protocols import ETH_P_ALL

from dni_driver.core.errors import KernelError
from dni_driver.core.names import egress_link, endpoint_digits
from dni_driver.core.options.bandwidth import Limits, bucket, write_limit
from dni_driver.core.wanted import Link
from dni_driver.kernel.containers import links
from dni_driver.kernel.ledger import Ledger, in_words
from dni_driver.kernel.netlink.conversation import Message, conversation, dump, tolerating
from dni_driver.kernel.snapshot import LinkState, Snapshot, find

_ENTRANCE = 0xFFFF0000
"""The handle of the qdisc `ingress`, where rules for what comes in are put."""
_RULE = {"parent": _ENTRANCE, "prio": 1, "protocol": ETH_P_ALL, "target": 0, "keys": ["0x0/0x0+0"]}
"""Every packet; with a handle, so that to add it twice is to add it once."""
_RULE_HANDLE = 0x80000001
_REDIRECTED_TO = ("options", "TCA_U32_ACT", "TCA_ACT_PRIO_1", "TCA_ACT_OPTIONS", "TCA_MIRRED_PARMS", "ifindex")

_LACKING = (errno.ENOENT, errno.EOPNOTSUPP)
_NOT_THERE = (errno.ENOENT, errno.EINVAL)


class Timing(msgspec.Struct, frozen=True):
    """A bucket as the kernel counts it: bytes a second, the burst in ticks of its own, bytes that may wait."""

    rate: int
    buffer: int
    limit: int


class Shapes(msgspec.Struct, frozen=True, kw_only=True):
    """The traffic control of this network namespace that could be ours, by the index of the device.

    `buckets` are at the roots of devices; `redirects` tell to which device one hands all that comes in, 0 for none.
    """

    buckets: dict[int, Timing]
    redirects: dict[int, int]


def read() -> Shapes:
    """Read all there is, nothing where the kernel has no traffic control; raise OSError."""
    found: list[tuple[int, Timing | None]] = []
    redirects: dict[int, int] = {}
    with conversation() as kernel, tolerating(errno.EOPNOTSUPP):
        found = dump(kernel.tc, _qdisc)
        redirects = {index: _target(kernel, index) for index, timing in found if timing is None}
    return Shapes(buckets={index: timing for index, timing in found if timing is not None}, redirects=redirects)


def _qdisc(message: Message) -> tuple[int, Timing | None] | None:
    """Read a bucket at a root; None beside the index for an entrance, None alone for anything else."""
    kind, parent = message.get("kind"), message["parent"]
    if kind == "tbf" and parent == TC_H_ROOT:
        told = message.get(("options", "TCA_TBF_PARMS"))
        return message["index"], Timing(told["rate"], told["buffer"], told["limit"])
    return (message["index"], None) if kind == "ingress" else None


def _target(kernel: IPRoute, index: int) -> int:
    rules = kernel.get_filters(index=index, parent=_ENTRANCE)
    return next(filter(None, [rule.get(_REDIRECTED_TO) for rule in rules]), 0)


def held(host: LinkState, seen: Snapshot, shapes: Shapes) -> Limits:
    """Answer the limits that a host end's link is held to."""
    entering, leaving = _timings(host, seen, shapes)
    return Limits(egress=_bits(entering), ingress=_bits(leaving))


def _bits(timing: Timing | None) -> int | None:
    return timing.rate * 8 if timing else None


def _timings(host: LinkState, seen: Snapshot, shapes: Shapes) -> tuple[Timing | None, Timing | None]:
    """Answer the buckets for what enters by a host end and for what leaves by it, where they work."""
    ifb = seen.ifbs.get(egress_link(endpoint_digits(host.name)))
    entering = None
    if ifb is not None and ifb.up and shapes.redirects.get(host.index) == ifb.index:
        entering = shapes.buckets.get(ifb.index)
    return entering, shapes.buckets.get(host.index)


def apply(link: Link) -> None:
    """Hold a link that is there to its limits, whatever it was held to before.

    Raises KernelError; it names the module of the kernel where one is missing.
    """
    try:
        with conversation() as kernel:
            host = socket.if_nametoindex(link.host)
            _limit_leaving(kernel, link, host)
            _limit_entering(kernel, link, host)
    except OSError as error:
        raise KernelError(f"link {link.host} cannot be held to its limits: {in_words(error)}") from error


def _limit_leaving(kernel: IPRoute, link: Link, host: int) -> None:
    rate = link.limits.ingress
    if rate is None:
        with tolerating(*_NOT_THERE):
            kernel.tc("del", index=host, parent=TC_H_ROOT)
        return
    with _needing("sch_tbf", f"ingress={write_limit(rate)}"):
        _put_bucket(kernel, host, rate, link.mtu)


def _limit_entering(kernel: IPRoute, link: Link, host: int) -> None:
    rate = link.limits.egress
    if rate is None:
        with tolerating(*_NOT_THERE):
            kernel.tc("del", index=host, parent=TC_H_INGRESS, handle=_ENTRANCE)
        return
    asked = f"egress={write_limit(rate)}"
    with _needing("ifb", asked):
        ifb = _made(kernel, egress_link(link.endpoint))
    with _needing("sch_tbf", asked):
        _put_bucket(kernel, ifb, rate, link.mtu)
    with _needing("sch_ingress", asked), tolerating(errno.EEXIST):
        kernel.tc("add", "ingress", index=host)
    with _needing("cls_u32 and act_mirred", asked):
        redirect = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": ifb}
        kernel.tc("replace-filter", "u32", index=host, handle=_RULE_HANDLE, action=redirect, **_RULE)


def _made(kernel: IPRoute, name: str) -> int:
    """Make an ifb, or take the one that is there, and have it up; answer its index."""
    with tolerating(errno.EEXIST):
        kernel.link("add", ifname=name, kind="ifb")
    found = find(kernel, ifname=name)
    if found is None or found.kind != "ifb":
        raise KernelError(f"link {name} is taken by a device that is no ifb: `ip link del {name}`")
    links.set_up(kernel, name)
    return found.index


def _put_bucket(kernel: IPRoute, index: int, rate: int, mtu: int) -> None:
    kernel.tc("replace", "tbf", index=index, **_described(rate, mtu))


def _described(rate: int, mtu: int) -> dict[str, int]:
    wanted = bucket(rate, mtu)
    return {"rate": wanted.rate, "burst": wanted.burst, "limit": wanted.queue}


def _timing(rate: int | None, mtu: int) -> Timing | None:
    if rate is None:
        return None
    told = get_rate_parameters(_described(rate, mtu))
    return Timing(told["rate"], told["buffer"], told["limit"])


@contextmanager
def _needing(module: str, asked: str) -> Iterator[None]:
    """Say which module is missing where the kernel does not know what it is asked for."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in _LACKING:
            raise
        raise KernelError(
            f"{asked} needs {module} in this host's kernel, which says: {error.args[-1]}; load it "
            f"(`modprobe -a {module.replace(' and ', ' ')}`), or start the container without this limit"
        ) from error


def mend(wanted: Iterable[Link], seen: Snapshot, shapes: Shapes, ledger: Ledger) -> None:
    """Hold the links that are there to their limits."""
    for link in wanted:
        host = seen.host_ends.get(link.host)
        if host is not None and (wrong := list(_faults(link, host, seen, shapes))):
            with ledger.about(f"limits of link {link.host}"):
                apply(link)
                ledger.did(f"mended limits of link {link.host}: {', '.join(wrong)}")


def _faults(link: Link, host: LinkState, seen: Snapshot, shapes: Shapes) -> Iterator[str]:
    entering, leaving = _timings(host, seen, shapes)
    left_over = link.limits.egress is None and host.index in shapes.redirects
    if left_over or entering != _timing(link.limits.egress, link.mtu):
        yield f"egress {write_limit(link.limits.egress)}"
    if leaving != _timing(link.limits.ingress, link.mtu):
        yield f"ingress {write_limit(link.limits.ingress)}"


def delete_idle(wanted: Iterable[Link], seen: Snapshot, ledger: Ledger) -> None:
    """Delete the devices that no limit needs; they must have been seen before the records were read."""
    needed = {egress_link(link.endpoint) for link in wanted if link.limits.egress is not None}
    idle = [name for name in seen.ifbs if name not in needed]
    if idle:
        with ledger.about(f"idle devices {links.listed(idle)}"):
            links.delete(idle)
            ledger.tidied(f"deleted idle devices: {links.listed(idle)}")
