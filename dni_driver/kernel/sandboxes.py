# SPDX-License-Identifier: Apache-2.0
"""The container ends inside the sandboxes: what they are called, and how to give one back that was deleted.

Normally libnetwork does all of this. Only a link that somebody deleted under a running container is made here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv6Interface, ip_address
from typing import Any

from dni_driver.core.errors import KernelError
from dni_driver.core.wanted import Link
from dni_driver.kernel import links, namespaces, sysctl
from dni_driver.kernel.ledger import Ledger
from dni_driver.kernel.netlink import Netlink, number, raw, text
from dni_driver.kernel.snapshot import ADDRESS, MTU, NAME, Snapshot, find, find_elsewhere, link_body
from dni_driver.kernel.snapshot import read as read_snapshot

_GRACE = 2.0
"""Seconds a link must have been seen missing: a Join between its record and its link takes milliseconds."""

_NAMESPACE_FILE = 28
_PREFIX = "eth"
_NO_DUPLICATE_DETECTION = 0x02
_BOOT = 3
"""The origin that libnetwork gives its routes."""
_FAMILIES = {4: 2, 6: 10}


class Repairs:
    """Remembers which wanted links were missing, and makes those anew that stay so while their sandbox is there."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Count seconds by this clock."""
        self._clock = clock
        self._missing_since: dict[str, float] = {}

    def settle(self, wanted: Iterable[Link], seen: Snapshot, ledger: Ledger) -> None:
        """Make the links anew that have been missing twice, with a grace between."""
        missing = {link.host: link for link in wanted if link.sandbox and link.host not in seen.links}
        now = self._clock()
        self._missing_since = {host: self._missing_since.get(host, now) for host in missing}
        for host, link in missing.items():
            if now - self._missing_since[host] >= _GRACE:
                with ledger.about(f"link {host} of endpoint {link.endpoint[:12]}"):
                    _renew(link, ledger)


def _renew(link: Link, ledger: Ledger) -> None:
    with namespaces.opened(link.sandbox or "") as sandbox:
        if sandbox is None:
            return
        name = _free_name(link, set(namespaces.inside(sandbox, read_snapshot).links))
        links.renew(link, _container_end(link, name, sandbox), partial(_furnish, sandbox, link, name))
        ledger.did(f"made link {link.host} anew, as {name} in sandbox {link.sandbox}")


def _free_name(link: Link, taken: set[str]) -> str:
    numbered = (f"{_PREFIX}{index}" for index in itertools.count())
    wished = [link.ifname] if link.ifname else []
    return next(name for name in itertools.chain(wished, numbered) if name not in taken)


def _container_end(link: Link, name: str, sandbox: int) -> bytes:
    mac = raw(ADDRESS, links.mac_bytes(link.mac))
    return link_body(attributes=text(NAME, name) + number(MTU, link.mtu) + mac + number(_NAMESPACE_FILE, sandbox))


def _furnish(sandbox: int, link: Link, name: str) -> None:
    namespaces.inside(sandbox, partial(_configure, link, name))


def _configure(link: Link, name: str) -> None:
    """Address the container end, set it up and route by it: in the sandbox's namespace."""
    # Loading pyroute2 takes 10 MiB, and most hosts never come here.
    from pyroute2 import IPRoute  # noqa: PLC0415
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    speaks6 = any(isinstance(address, IPv6Interface) for address in link.addresses)
    sysctl.ensure(f"ipv6/conf/{name}/disable_ipv6", "0" if speaks6 else "1")
    try:
        with IPRoute() as sandbox:
            _address(sandbox, link, name)
    except NetlinkError as error:
        raise KernelError(f"{name} cannot be given its addresses and routes: {error.args[-1]}") from error


def _address(sandbox: Any, link: Link, name: str) -> None:
    (index,) = sandbox.link_lookup(ifname=name)
    for address in link.addresses:
        unchecked = {"flags": _NO_DUPLICATE_DETECTION} if isinstance(address, IPv6Interface) else {}
        sandbox.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, **unchecked)
    sandbox.link("set", index=index, state="up")
    for gateway in link.gateways:
        family = _FAMILIES[ip_address(gateway).version]
        if not sandbox.get_default_routes(family=family):
            sandbox.route("add", family=family, dst="default", gateway=gateway, oif=index, proto=_BOOT)


def ifname(link: Link) -> str | None:
    """Answer what a link's container end is called in its sandbox; None where it has not been moved there."""
    with Netlink() as kernel:
        host = find(kernel, link.host)
        if host is None or host.peer_namespace is None:
            return None
        end = find_elsewhere(kernel, host.peer, host.peer_namespace)
    return end.name if end else None
