# SPDX-License-Identifier: Apache-2.0
"""Defines overlays in the whole cluster, each with its Docker network here, if it is to have one."""

from __future__ import annotations

from collections.abc import Callable

from dni_driver.agent.joining import Joining
from dni_driver.agent.networking import Networking
from dni_driver.agent.ports import Kernel
from dni_driver.core.errors import Refused
from dni_driver.core.overlays import Overlay, check_no_overlap
from dni_driver.store import Store, overlays


class Defining:
    """What a user's word makes of an overlay: its definition everywhere, and its network on this host."""

    def __init__(
        self,
        store: Store,
        kernel: Kernel,
        joining: Joining,
        networking: Networking,
        makes_network: Callable[[str], bool],
    ) -> None:
        """`makes_network` tells of an overlay by name whether it is to have a Docker network made here."""
        self._store = store
        self._kernel = kernel
        self._joining = joining
        self._networking = networking
        self._makes_network = makes_network

    def define(self, overlay: Overlay) -> str | None:
        """Define an overlay and make its network; answer in words why there is none, None where all is well.

        Raises Refused, InUse, Exhausted where there can be no such overlay.
        """
        self._check_apart(overlay)
        self._joining.define(overlay)
        return self._networking.make(overlay.name) if self._makes_network(overlay.name) else None

    def define_without_network(self, overlay: Overlay) -> None:
        """Define an overlay whose Docker network on this host is left to the user."""
        self._check_apart(overlay)
        with self._networking.sparing(overlay.name):
            self._joining.define(overlay)

    def try_out(self, overlay: Overlay) -> None:
        """Define an overlay for a Docker network that dockerd is about to create, if all goes well."""
        self._check_apart(overlay)
        self._joining.try_out(overlay)

    def _check_apart(self, overlay: Overlay) -> None:
        """Refuse a new overlay that would take from containers what this host reaches directly: its LAN, for one."""
        with self._store.read() as tx:
            known = overlays.every(tx)
        if overlay.name in {other.name for other in known}:
            return
        check_no_overlap(overlay, known)
        for subnet in overlay.subnets():
            found = self._kernel.overlapping_routes(subnet)
            if found:
                raise Refused(
                    f"subnet {subnet} of overlay {overlay.name!r} overlaps what this host reaches directly "
                    f"({', '.join(found)}), and containers would no longer reach that: choose another subnet"
                )
