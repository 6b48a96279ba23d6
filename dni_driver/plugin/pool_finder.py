# SPDX-License-Identifier: Apache-2.0
"""Finding the pool a RequestPool means, together with the agent: it may have to be defined or leased first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import structlog

from dni_driver.core.deadline import within
from dni_driver.core.errors import DeadlineExceeded, DniError, Refused, Unavailable
from dni_driver.core.overlays import Network, Overlay
from dni_driver.core.records import Held, docker_halves
from dni_driver.core.selection import (
    Choice,
    Known,
    OverlayChosen,
    OverlayDefined,
    PlainChosen,
    PoolRequest,
    choose_pool,
    under_way,
)
from dni_driver.plugin.local_subnets import keep_local_subnet
from dni_driver.store import Store, networks, overlays, pools

log = structlog.get_logger(__name__)

AGENT_SECONDS = 10.0
"""How long a call waits for the agent to lease this host's part of an overlay."""

_POLL_SECONDS = 0.1


class Routes(Protocol):
    """What the IPAM driver asks the kernel."""

    def overlapping_routes(self, network: Network) -> list[str]:
        """Name the on-link routes and name servers inside a subnet."""

    def leads_into(self, network: Network) -> bool:
        """Tell whether any route but the default one leads into a subnet."""

    def ipv6_fault(self) -> str | None:
        """Say why this host speaks no IPv6, and what changes that; None where it does."""


class Cluster(Protocol):
    """What the IPAM driver asks the agent, which asks the registry."""

    def try_out(self, overlay: Overlay) -> None:
        """Define an overlay for a network that is being created, and lease this host's part of it.

        Without that network it goes again by itself; so it does where the answer comes too late.
        """

    def remove(self, overlay: str) -> None:
        """Remove an overlay that nothing uses."""


class PoolFinder:
    """Looks in the store, and asks the agent for what is not there yet."""

    def __init__(
        self,
        store: Store,
        routes: Routes,
        cluster: Cluster,
        default_overlay: str,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the store, the kernel's routes, and the cluster that a new overlay is defined in."""
        self._store = store
        self._clock = clock
        self._routes = routes
        self._cluster = cluster
        self._default_overlay = default_overlay
        self._sleep = sleep

    def find(self, wanted: PoolRequest) -> Choice:
        """Find what is meant, waiting for the agent where this host's part of an overlay is still to come."""
        ends = time.monotonic() + within(AGENT_SECONDS)
        while not (known := self._known(wanted)).overlays:
            self._wait(ends, self._default_overlay)
        choice = choose_pool(wanted, known)
        if isinstance(choice, PlainChosen):
            return choice
        self._prepare(choice, wanted)
        while not docker_halves(self._held(), choice.overlay.name, wanted.family):
            self._wait(ends, choice.overlay.name)
        return choice

    def _prepare(self, choice: OverlayChosen | OverlayDefined, wanted: PoolRequest) -> None:
        if wanted.family == 6:  # noqa: PLR2004
            self._check_ipv6()
        if isinstance(choice, OverlayDefined):
            self._define(choice.overlay)
        elif choice.overlay.space(wanted.family) is None:
            keep_local_subnet(self._store, self._routes, choice.overlay.name)

    def _known(self, wanted: PoolRequest) -> Known:
        """Answer what there is to choose from; without a word, IPv6 is asked for where IPv4 has just been."""
        with self._store.read() as tx:
            known, asked = overlays.every(tx), pools.every(tx)
            taken = {network.overlay for network in networks.every(tx)}
            held = overlays.held(tx)
        meant = under_way(asked, taken, self._clock()) if wanted.family == 6 else None  # noqa: PLR2004
        return Known(
            overlays=known,
            held=held,
            default=meant or self._default_overlay,
            on_trial={pool.overlay for pool in asked if pool.overlay is not None and pool.trial},
        )

    def _held(self) -> list[Held]:
        with self._store.read() as tx:
            return overlays.held(tx)

    def _check_ipv6(self) -> None:
        fault = self._routes.ipv6_fault()
        if fault is not None:
            raise Refused(f"this host speaks no IPv6, as {fault}; or leave --ipv6 out")

    def _define(self, overlay: Overlay) -> None:
        """Have a new overlay defined in the cluster, unless this host could not use it."""
        for subnet in overlay.subnets():
            self.check_routes(subnet)
        self._cluster.try_out(overlay)

    def _wait(self, ends: float, overlay: str) -> None:
        try:
            within(_POLL_SECONDS)
        except DeadlineExceeded:
            ends = 0.0
        if time.monotonic() >= ends:
            raise Unavailable(
                f"this host has no agent subnet of overlay {overlay!r} yet: `dni status` shows what the agent "
                f"is waiting for; is `dni up` running?"
            )
        self._sleep(_POLL_SECONDS)

    def check_routes(self, half: Network) -> None:
        """Refuse a pool that overlaps an on-link route: dockerd would ask again and again, for ever."""
        found = self._routes.overlapping_routes(half)
        if found:
            raise Refused(
                f"subnet {half} overlaps what this host already reaches directly ({', '.join(found)}): "
                f"take that away, or use another overlay (--subnet … --ipam-opt overlay=NAME)"
            )

    def take_back(self, overlay: str) -> None:
        """Remove an overlay that was defined for a network whose creation failed."""
        try:
            self._cluster.remove(overlay)
        except DniError as error:
            log.warning("overlay of a failed creation stays", overlay=overlay, error=str(error))
