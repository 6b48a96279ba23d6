# SPDX-License-Identifier: Apache-2.0
"""The container ends inside the sandboxes: what they are called, their MTU, and how to give a deleted one back.

Normally libnetwork does all of this. Only a link that somebody deleted under a running container is made here, and
one whose network has another MTU now is given that.
"""

from __future__ import annotations

import errno
import itertools
import socket
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from ipaddress import IPv6Interface, ip_address

from pyroute2.iproute import IPRoute
from pyroute2.netlink.rtnl import rt_proto

from dni_driver.core.deadline import within
from dni_driver.core.errors import KernelError
from dni_driver.core.wanted import Link
from dni_driver.kernel import addresses, namespaces, snapshot, sysctl
from dni_driver.kernel.containers import links, shaping
from dni_driver.kernel.ledger import Ledger, in_words
from dni_driver.kernel.netlink.conversation import conversation, tolerating
from dni_driver.kernel.snapshot import LinkDetails, Snapshot, find

_LAST_RESORT = 4096
"""A metric behind that of any other route."""
_GRACE = 2.0
"""Seconds a link must have been seen missing: a Join between its record and its link takes milliseconds."""

_FOLLOWING, _STEP = 2.0, 0.05
"""Seconds to wait for links whose sandboxes are gone, and between two looks."""

_ORIGIN = rt_proto["boot"]
"""What libnetwork gives its routes."""


class Repairs:
    """Remembers which wanted links were missing, and makes those anew that stay so while their sandbox is there."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Count seconds by this clock."""
        self._clock = clock
        self._missing_since: dict[str, float] = {}

    def settle(self, wanted: Iterable[Link], seen: Snapshot, ledger: Ledger) -> None:
        """Make the links anew that have been missing twice, with a grace between."""
        missing = {link.host: link for link in wanted if link.sandbox and link.host not in seen.names}
        now = self._clock()
        self._missing_since = {host: self._missing_since.get(host, now) for host in missing}
        for host, link in missing.items():
            if now - self._missing_since[host] >= _GRACE:
                with ledger.about(f"link {host} of endpoint {link.endpoint[:12]}", link.bridge):
                    _renew(link, ledger)


def _renew(link: Link, ledger: Ledger) -> None:
    with namespaces.opened(link.sandbox or "") as sandbox:
        if sandbox is None:
            return
        name = _free_name(link, namespaces.inside(sandbox, snapshot.names))
        make(link, name, sandbox)
        ledger.did(f"made link {link.host} anew, as {name} in sandbox {link.sandbox}")


def make(link: Link, name: str, sandbox: int) -> None:
    """Make a link whole, its container end with this name in an open sandbox; raise OSError, KernelError."""
    links.renew(link, name, sandbox, partial(_furnish, sandbox, link, name))
    if link.limits:
        shaping.apply(link)


def _free_name(link: Link, taken: Collection[str]) -> str:
    numbered = (f"{link.prefix}{index}" for index in itertools.count())
    wished = [link.ifname] if link.ifname else []
    return next(name for name in itertools.chain(wished, numbered) if name not in taken)


def _furnish(sandbox: int, link: Link, name: str) -> None:
    namespaces.inside(sandbox, partial(_configure, link, name))


def _configure(link: Link, name: str) -> None:
    """Address the container end, set it up and route by it: in the sandbox's namespace."""
    speaks6 = any(isinstance(address, IPv6Interface) for address in link.addresses)
    sysctl.ensure(f"ipv6/conf/{name}/disable_ipv6", "0" if speaks6 else "1")
    try:
        with conversation() as kernel:
            _address(kernel, link, name)
    except OSError as error:
        raise KernelError(f"{name} cannot be given its addresses and routes: {in_words(error)}") from error


def _address(kernel: IPRoute, link: Link, name: str) -> None:
    index = socket.if_nametoindex(name)
    for address in link.addresses:
        kernel.addr("add", index=index, **addresses.described(address))
    kernel.link("set", index=index, state="up")
    for gateway in link.gateways:
        family = addresses.FAMILIES[ip_address(gateway).version]
        if not list(kernel.get_default_routes(family)):
            kernel.route("add", family=family, dst="default", gateway=gateway, oif=index, proto=_ORIGIN)
    for route in link.routes:
        way = {"dst": str(route.subnet), "gateway": route.gateway, "oif": index, "proto": _ORIGIN}
        with tolerating(errno.EEXIST) as refused:
            kernel.route("add", **way)
        if refused:
            # Another link of the container leads there: this one does when that has gone.
            kernel.route("add", priority=_LAST_RESORT + index, **way)


def resize(link: Link) -> None:
    """Give a container end in its sandbox the MTU of its link; raise OSError, KernelError.

    One that has not been moved there yet is left to `links.finish`.
    """
    with conversation() as kernel:
        host = find(kernel, ifname=link.host)
    if host is None or host.peer_namespace is None:
        return
    with namespaces.opened(link.sandbox or "") as sandbox:
        if sandbox is None:
            raise KernelError(f"sandbox {link.sandbox} cannot be entered to give its link MTU {link.mtu}")
        namespaces.inside(sandbox, partial(_set_mtu, host.peer, link.mtu))


def _set_mtu(index: int, mtu: int) -> None:
    with conversation() as kernel:
        kernel.link("set", index=index, mtu=mtu)


def container_end(link: Link) -> LinkDetails | None:
    """Answer a link's container end as its sandbox has it; None where it has not been moved there."""
    with conversation() as kernel:
        host = find(kernel, ifname=link.host)
        if host is None or host.peer_namespace is None or host.peer_namespace < 0:
            return None
        return find(kernel, index=host.peer, if_netnsid=host.peer_namespace)


def gone(wanted: Iterable[Link]) -> list[Link]:
    """Answer the links that are not there, and whose sandboxes are not; wait for links to follow their sandboxes."""
    ends = time.monotonic() + within(_FOLLOWING)
    dead = [link for link in wanted if link.sandbox and not _is_there(link.sandbox)]
    while not _names().isdisjoint(link.host for link in dead) and time.monotonic() < ends:
        time.sleep(_STEP)
    left = _names()
    return [link for link in dead if link.host not in left]


def _is_there(sandbox: str) -> bool:
    with namespaces.opened(sandbox) as found:
        return found is not None


def _names() -> set[str]:
    return {name for _, name in socket.if_nameindex()}
