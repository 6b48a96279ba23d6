# SPDX-License-Identifier: Apache-2.0
"""Finding an IPv4 subnet of this host for an IPv6-only overlay, where the engine asks for one."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Protocol

from dni_driver.core.errors import Exhausted
from dni_driver.core.local_subnets import PREFIX, SPACE, LocalSubnet, free_subnets
from dni_driver.core.overlays import Network
from dni_driver.store import Store, Transaction, local_subnets, overlays, pools


class Routes(Protocol):
    """What is asked of the kernel."""

    def overlapping_routes(self, network: Network) -> list[str]:
        """Name the on-link routes and name servers inside a subnet."""

    def leads_into(self, network: Network) -> bool:
        """Tell whether any route but the default one leads into a subnet."""


def keep_local_subnet(store: Store, routes: Routes, overlay: str) -> None:
    """Record a local subnet for an overlay: the one it had, else the lowest that nothing on this host overlaps.

    One that is used stays, whatever overlaps it. Raises Exhausted where there is none.
    """
    while True:
        with store.read() as tx:
            usable = _usable(tx, overlay)
            if _stays(tx, overlay):
                return
        chosen = next((subnet for subnet in usable if not _is_reached(subnet, routes)), None)
        if chosen is None:
            raise _none_left(overlay)
        with store.write() as tx:
            # Somebody may have taken it meanwhile.
            if chosen in _usable(tx, overlay) and not _stays(tx, overlay):
                local_subnets.put(tx, LocalSubnet(overlay=overlay, subnet=chosen))
                return


def _stays(tx: Transaction, overlay: str) -> bool:
    return bool(local_subnets.every(tx, overlay)) and local_subnets.is_used(tx, overlay)


def _is_reached(subnet: IPv4Network, routes: Routes) -> bool:
    return bool(routes.overlapping_routes(subnet)) or routes.leads_into(subnet)


def _usable(tx: Transaction, overlay: str) -> list[IPv4Network]:
    """Answer what no overlay, plain pool or other local subnet has; first of all what the overlay had before."""
    known = local_subnets.every(tx)
    taken: list[Network] = [local.subnet for local in known if local.overlay != overlay]
    taken += [subnet for other in overlays.every(tx) for subnet in other.subnets()]
    taken += [pool.subnet for pool in pools.every(tx) if pool.subnet is not None]
    free = list(free_subnets(taken))
    former = [local.subnet for local in known if local.overlay == overlay and local.subnet in free]
    return [*former, *free]


def _none_left(overlay: str) -> Exhausted:
    return Exhausted(
        f"overlay {overlay!r} is IPv6 only, Docker asks for IPv4 too, and this host has no /{PREFIX} of {SPACE} left "
        f"for that: free one, or leave IPv4 out (--ipv4=false, from Docker 28 on)"
    )
