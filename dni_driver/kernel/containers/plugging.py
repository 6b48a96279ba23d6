# SPDX-License-Identifier: Apache-2.0
"""Links that are made whole, down into the sandbox: for containers of CNI, which have no libnetwork to do that."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import msgspec

from dni_driver.core.errors import KernelError
from dni_driver.core.records import Interface
from dni_driver.core.wanted import Link
from dni_driver.kernel import addresses, namespaces
from dni_driver.kernel.containers import links, sandboxes
from dni_driver.kernel.netlink.conversation import conversation
from dni_driver.kernel.snapshot import LinkDetails, find


class _Inside(msgspec.Struct, frozen=True):
    """A container end as its sandbox has it."""

    end: LinkDetails
    addresses: frozenset[Interface]


def plug(link: Link) -> None:
    """Make a link with its container end in its sandbox, named, addressed and routed; finish what is there already.

    Raises KernelError where the sandbox is no namespace, or has another link of that name; OSError.
    """
    with namespaces.opened(link.sandbox or "") as sandbox:
        if sandbox is None:
            raise KernelError(f"{link.sandbox} is no network namespace of a container that dni can see")
        host, inside = _host_end(link), namespaces.inside(sandbox, partial(_look, link))
        if host and inside and _are_a_pair(host, inside.end):
            return
        if inside:
            raise KernelError(f"the container has a link {link.ifname} already, which is none of dni's")
        if host:
            links.delete([link.host])
        sandboxes.make(link, str(link.ifname), sandbox)


def faults(link: Link) -> list[str]:
    """Answer in words how a link differs from what `plug` made."""
    with namespaces.opened(link.sandbox or "") as sandbox:
        if sandbox is None:
            return [f"{link.sandbox} is no network namespace any more"]
        host, inside = _host_end(link), namespaces.inside(sandbox, partial(_look, link))
    if host is None:
        return [f"link {link.host} on {link.bridge} is missing"]
    if inside is None or not _are_a_pair(host, inside.end):
        return [f"link {link.ifname} is missing in the container"]
    found = [] if host.up and inside.end.up else [f"link {link.ifname} is down"]
    found += [f"link {link.ifname} has MTU {inside.end.mtu} instead of {link.mtu}"] * (inside.end.mtu != link.mtu)
    lacking = sorted(set(link.addresses) - inside.addresses, key=str)
    return [*found, *(f"link {link.ifname} lacks address {address}" for address in lacking)]


def missing(paths: Iterable[str]) -> set[str]:
    """Answer which paths lead to no network namespace but this one."""
    return {path for path in paths if not _is_there(path)}


def _is_there(path: str) -> bool:
    try:
        with namespaces.opened(path) as found:
            return found is not None
    except OSError:
        return True


def _host_end(link: Link) -> LinkDetails | None:
    with conversation() as kernel:
        return find(kernel, ifname=link.host)


def _look(link: Link) -> _Inside | None:
    """Read the container end, and the addresses it carries: in the sandbox's namespace."""
    with conversation() as kernel:
        end = find(kernel, ifname=str(link.ifname))
        if end is None:
            return None
        return _Inside(end, frozenset(address for _, address in addresses.read(kernel, [end.index])))


def _are_a_pair(host: LinkDetails, end: LinkDetails) -> bool:
    return host.kind == end.kind == "veth" and host.peer == end.index and end.peer == host.index
