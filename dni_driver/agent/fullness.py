# SPDX-License-Identifier: Apache-2.0
"""How full overlays are: for those who ask, and a warning to those who do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from dni_driver.core.errors import DniError, Unavailable
from dni_driver.core.figures import Cluster, cluster_of
from dni_driver.core.filling import LEVELS, Alarms, Load, loads
from dni_driver.core.fullness import Half, Holding, Local, Occupied, OverlayUsage, Room, overlay_usage, room
from dni_driver.core.overlays import Address
from dni_driver.core.reports import unknown_overlay
from dni_driver.mesos.host_local import DATA_DIRECTORIES, occupied
from dni_driver.registry import Registry
from dni_driver.store import Store, held_since, overlays
from dni_driver.store.records import read_all

log = structlog.get_logger(__name__)


class Fullness:
    """Counts what the store, the Mesos side and the registry know. May be asked from any thread."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: Callable[[], float],
        directories: Sequence[Path] = DATA_DIRECTORIES,
    ) -> None:
        """`directories` are where host-local keeps the addresses of the Mesos side."""
        self._store = store
        self._registry = registry
        self._clock = clock
        self._directories = directories
        self._alarms = Alarms()

    def usage(self, overlay: str) -> OverlayUsage:
        """Answer how full an overlay is, here and elsewhere; raise NotFound."""
        local = self._local()
        if overlay not in {known.name for known in local.records.overlays}:
            raise unknown_overlay(overlay)
        holdings, problem = self._holdings()
        return overlay_usage(overlay, local, holdings, problem)

    def room(self, overlay: str, agent: Address | None, half: Half, count: int) -> Room:
        """Answer whether `count` more containers find addresses on an agent; None: on this one."""
        return room(self.usage(overlay), str(agent) if agent else None, half, count)

    def loads(self) -> list[Load]:
        """Answer how much of each half of this host is taken."""
        return loads(self._local())

    def cluster(self) -> Cluster | None:
        """Count who holds what; None where the registry cannot be had."""
        with self._store.read() as tx:
            me = overlays.agent_ip(tx)
        try:
            members = self._registry.members()
        except DniError:
            return None
        holdings = [Holding(agent=one.agent_ip, held=held) for one in members for held in one.subnets]
        return cluster_of(holdings, [one.alive for one in members], me)

    def look(self) -> Sequence[str]:
        """Warn of halves that fill up; answer in words which are all but full, and what could not be counted."""
        self._note_dates()
        local = self._local()
        for load, level in self._alarms.look(loads(local)):
            if level < LEVELS[-1]:
                _warn(load)
        uncounted = dict.fromkeys(why for why in local.occupied.values() if isinstance(why, str))
        return [*uncounted, *self._alarms.problems()]

    def _note_dates(self) -> None:
        with self._store.read() as tx:
            noted = held_since.is_noted(tx)
        if not noted:
            with self._store.write() as tx:
                held_since.note(tx, self._clock())

    def _local(self) -> Local:
        records = read_all(self._store)
        with self._store.read() as tx:
            since = held_since.every(tx)
        taken = {overlay.name: self._occupied(overlay.name) for overlay in records.overlays}
        return Local(records=records, occupied=taken, since=since)

    def _occupied(self, overlay: str) -> Occupied:
        try:
            return frozenset(occupied(overlay, self._directories))
        except Unavailable as error:
            return str(error)

    def _holdings(self) -> tuple[list[Holding], str | None]:
        """Answer who holds what; where the registry cannot be had, nothing, and why."""
        try:
            leases = self._registry.leases()
        except DniError as error:
            return [], f"other agents are not listed: {error}"
        return [Holding(agent=lease.agent_ip, held=lease.held) for lease in leases], None


def _warn(load: Load) -> None:
    log.warning(
        "an overlay is filling up",
        overlay=load.overlay,
        half=load.half,
        family=load.family,
        percent=load.percent,
        free=load.free,
        size=load.size,
    )
