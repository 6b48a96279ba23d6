# SPDX-License-Identifier: Apache-2.0
"""Finding the pool a RequestPool means, together with the agent: it may have to be defined or leased first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import structlog

from dni_driver.core.addresses.selection import (
    Choice,
    Known,
    OverlayChosen,
    OverlayDefined,
    PlainChosen,
    PoolRequest,
    choose_pool,
    under_way,
)
from dni_driver.core.deadline import within
from dni_driver.core.errors import DeadlineExceeded, DniError, Refused, Unavailable
from dni_driver.core.overlays import Family, Network, Overlay
from dni_driver.core.records import Held, docker_halves
from dni_driver.plugin.local_subnets import keep_local_subnet
from dni_driver.store import Store, leaving, networks, overlays, pools

log = structlog.get_logger(__name__)

AGENT_SECONDS = 10.0
"""How long a call waits for the agent to lease this host's part of an overlay."""

_POLL_SECONDS = 0.1


class Reach(Protocol):
    """What a new network is held against: where this host's packets go already, and whether it speaks IPv6."""

    def overlapping_routes(self, network: Network) -> list[str]:
        """Name the on-link routes and name servers inside a subnet."""

    def ipv6_fault(self) -> str | None:
        """Say why this host speaks no IPv6, and what changes that; None where it does."""


class Routes(Reach, Protocol):
    """What the IPAM driver asks the kernel."""

    def leads_into(self, network: Network) -> bool:
        """Tell whether any route but the default one leads into a subnet."""


class Cluster(Protocol):
    """What the IPAM driver asks the agent, which asks the registry."""

    def try_out(self, overlay: Overlay) -> None:
        """Define an overlay for a network that is being created, and lease this host's part of it.

        Without that network it goes again by itself; so it does where the answer comes too late.
        """

    def remove(self, overlay: str) -> None:
        """Remove an overlay that nothing uses."""


class Patience:
    """Waits for what the agent has still to record, for AGENT_SECONDS from the beginning of a call; then gives up."""

    def __init__(self, store: Store, sleep: Callable[[float], None] = time.sleep) -> None:
        """Begin to wait."""
        self._store = store
        self._sleep = sleep
        self._ends = time.monotonic() + within(AGENT_SECONDS)

    def overlays(self, meant: str) -> list[Overlay]:
        """Answer the overlays, as soon as there is one; raise Unavailable."""
        while True:
            with self._store.read() as tx:
                known = overlays.every(tx)
            if known:
                return known
            self._wait(meant)

    def halves(self, overlay: str, family: Family) -> list[Network]:
        """Answer the Docker halves of an overlay, as soon as this host has one; raise Unavailable."""
        while True:
            with self._store.read() as tx:
                halves = docker_halves(overlays.held(tx, overlay), overlay, family)
            if halves:
                return halves
            self._wait(overlay)

    def _wait(self, overlay: str) -> None:
        try:
            within(_POLL_SECONDS)
        except DeadlineExceeded:
            self._ends = 0.0
        if time.monotonic() >= self._ends:
            raise Unavailable(
                f"this host has no agent subnet of overlay {overlay!r} yet: `dni status` shows what the agent "
                f"is waiting for; is `dni up` running?"
            )
        self._sleep(_POLL_SECONDS)


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
        patience = Patience(self._store, self._sleep)
        patience.overlays(self._default_overlay)
        choice = choose_pool(wanted, self._known(wanted))
        if isinstance(choice, PlainChosen):
            return choice
        with self._store.read() as tx:
            leaving.check(tx, choice.overlay.name)
        self._prepare(choice, wanted)
        patience.halves(choice.overlay.name, wanted.family)
        return choice

    def _prepare(self, choice: OverlayChosen | OverlayDefined, wanted: PoolRequest) -> None:
        if wanted.family == 6:  # noqa: PLR2004
            check_ipv6(self._routes)
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

    def _define(self, overlay: Overlay) -> None:
        """Have a new overlay defined in the cluster, unless this host could not use it."""
        for subnet in overlay.subnets():
            self.check_routes(subnet)
        self._cluster.try_out(overlay)

    def check_routes(self, half: Network) -> None:
        """Refuse a pool that overlaps an on-link route."""
        check_routes(self._routes, half)

    def take_back(self, overlay: str) -> None:
        """Remove an overlay that was defined for a network whose creation failed."""
        try:
            self._cluster.remove(overlay)
        except DniError as error:
            log.warning("overlay of a failed creation stays", overlay=overlay, error=str(error))


def check_routes(routes: Reach, half: Network) -> None:
    """Refuse a pool that overlaps an on-link route: dockerd would ask for another again and again, for ever."""
    found = routes.overlapping_routes(half)
    if found:
        raise Refused(
            f"subnet {half} overlaps what this host already reaches directly ({', '.join(found)}): "
            f"take that away, or use another subnet (--subnet … --ipam-opt overlay=NAME)"
        )


def check_ipv6(routes: Reach) -> None:
    """Refuse IPv6 on a host that has it off."""
    fault = routes.ipv6_fault()
    if fault is not None:
        raise Refused(f"this host speaks no IPv6, as {fault}; or leave --ipv6 out")
