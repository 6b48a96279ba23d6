# SPDX-License-Identifier: Apache-2.0
"""How full overlays are: for those who ask, and a warning to those who do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import structlog

from dni_driver.agent.hearing import Hearing
from dni_driver.agent.ports import Time
from dni_driver.core.addresses import telling
from dni_driver.core.addresses.counts import Counts, Heard
from dni_driver.core.addresses.filling import LEVELS, Alarms, Load, loads
from dni_driver.core.addresses.fullness import Half, Holding, Local, Occupied, OverlayUsage, Room, overlay_usage, room
from dni_driver.core.errors import DniError, Unavailable
from dni_driver.core.figures import Cluster, cluster_of
from dni_driver.core.overlays import Address
from dni_driver.core.problems import InShort
from dni_driver.core.records import Records
from dni_driver.core.reports import unknown_overlay
from dni_driver.mesos.host_local import DATA_DIRECTORIES, occupied
from dni_driver.registry import Registry
from dni_driver.store import Store, held_since
from dni_driver.store.records import read_all

log = structlog.get_logger(__name__)


class Fullness:
    """Counts what the store, the Mesos side and the registry know. May be asked from any thread."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        hearing: Hearing,
        time: Time,
        directories: Sequence[Path] = DATA_DIRECTORIES,
    ) -> None:
        """`directories` are where host-local keeps the addresses of the Mesos side."""
        self._store = store
        self._registry = registry
        self._clock = time.clock
        self._hearing = hearing
        self._directories = directories
        self._alarms = Alarms()

    def usage(self, overlay: str) -> OverlayUsage:
        """Answer how full an overlay is: here now, elsewhere as told some seconds ago at most; raise NotFound."""
        local = self._local_of(overlay)
        others = [one for one in _others(local.records) if one.held.overlay == overlay]
        heard = self._hearing.lately({one.agent: None for one in others})
        return overlay_usage(overlay, local, others, heard, self._clock())

    def room(self, overlay: str, agent: Address | None, half: Half, count: int) -> Room:
        """Answer whether `count` more containers find addresses on an agent; None: on this one. Raise NotFound."""
        local = self._local_of(overlay)
        is_here = agent is None or agent == local.records.agent
        theirs = [] if is_here else [one for one in _others(local.records) if one.agent == agent]
        heard = Heard() if agent is None or is_here else self._hearing.at_once(agent)
        found = overlay_usage(overlay, local, theirs, heard, self._clock())
        return room(found, str(agent) if agent else None, half, count)

    def counts(self, problems: InShort) -> Counts:
        """Count all that this host holds, to tell others beside what is wrong."""
        self._note_dates()
        return telling.counts(self._local(), problems, self._clock())

    def loads(self) -> list[Load]:
        """Answer how much of each half of this host is taken."""
        return loads(self._local())

    def cluster(self) -> Cluster | None:
        """Count who holds what, as agents were followed, and who lives; None where the registry cannot be had.

        Many hosts are asked for this every few seconds: nothing that grows with what agents hold is read for it.
        """
        records = read_all(self._store)
        try:
            alive = self._registry.alive()
        except DniError:
            return None
        known = {peer.agent_ip for peer in records.peers} | {one for one in [records.agent] if one}
        return cluster_of([*_mine(records), *_others(records)], [one in alive for one in known], records.agent)

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

    def _local_of(self, overlay: str) -> Local:
        local = self._local()
        if overlay not in {known.name for known in local.records.overlays}:
            raise unknown_overlay(overlay)
        return local

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


def _mine(records: Records) -> list[Holding]:
    return [Holding(agent=records.agent, held=held) for held in records.agent_subnets] if records.agent else []


def _others(records: Records) -> list[Holding]:
    """Answer what other agents hold, as the registry told when it changed."""
    return [Holding(agent=peer.agent_ip, held=held) for peer in records.peers for held in peer.subnets]


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
