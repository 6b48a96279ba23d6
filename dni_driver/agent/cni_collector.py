# SPDX-License-Identifier: Apache-2.0
"""Frees what containers of CNI left behind: their runtime died, or never said DEL.

Docker knows nothing of them. So one is taken for gone when its network namespace has no path any more, all through a
grace, and nobody answers at its addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from dni_driver.agent.collector import PROBES
from dni_driver.agent.ports import Kernel, Time
from dni_driver.agent.steady import Steady
from dni_driver.core.cni_records import CniEndpointRecord
from dni_driver.core.errors import DniError
from dni_driver.core.invariants.finding import REPAIR, Finding, is_settled
from dni_driver.store import Store, cni
from dni_driver.store.records import read_all

log = structlog.get_logger(__name__)

_FREEING_SECONDS = 10.0
"""After which no further portion is begun with: a repair has the rest of its caller's time for what is Docker's."""


class CniCollector:
    """Holds the endpoints of CNI against the namespaces there are."""

    def __init__(self, store: Store, kernel: Kernel, grace: float, time: Time) -> None:
        """`grace` is how long a namespace must have been gone, in seconds."""
        self._store = store
        self._kernel = kernel
        self._grace = grace
        self._time = time
        self._steady = Steady(time)
        self._gone_since: dict[CniEndpointRecord, float] = {}

    def collect(self) -> list[str]:
        """Look once; free what is due, and say so. After a restart of dni every wait begins anew."""
        self._steady()
        now = self._time.monotonic()
        seen = self._gone_since
        self._gone_since = {one: seen.get(one, now) for one in self.gone()}
        waited = [one for one in self._gone_since if one in seen and now - seen[one] >= self._grace]
        return list(self._free(waited))

    def repair(self) -> Iterator[str]:
        """Free at once what has been as it is for a minute, and does not answer; tell of each."""
        return self._free(self._settled())

    def findings(self) -> list[Finding]:
        """Answer which endpoints a repair would ask about."""
        return [
            Finding(about=f"container {one.container}", problem=_problem(one), mend=REPAIR) for one in self._settled()
        ]

    def gone(self) -> list[CniEndpointRecord]:
        """Answer the endpoints whose namespaces are gone."""
        endpoints = read_all(self._store).cni_endpoints
        missing = self._missing(endpoints)
        return [one for one in endpoints if one.sandbox in missing]

    def _missing(self, endpoints: Iterable[CniEndpointRecord]) -> set[str]:
        return self._kernel.missing_sandboxes(one.sandbox for one in endpoints)

    def _settled(self) -> list[CniEndpointRecord]:
        return [one for one in self.gone() if is_settled(one.since, self._steady())]

    def _free(self, due: Sequence[CniEndpointRecord]) -> Iterator[str]:
        """Free portion by portion what does not answer, telling of each; the rest has to wait for the next time."""
        ends = self._time.monotonic() + _FREEING_SECONDS
        for start in range(0, len(due), PROBES):
            if self._time.monotonic() < ends:
                yield from self._free_silent(self._silent(due[start : start + PROBES]))

    def _silent(self, due: Sequence[CniEndpointRecord]) -> list[CniEndpointRecord]:
        """Answer those that nobody answers for; an address takes a second to be silent, so all are asked at once."""
        with ThreadPoolExecutor(len(due)) as probes:
            alive = probes.map(self._is_alive, due)
            return [one for one, is_alive in zip(due, alive, strict=True) if not is_alive]

    def _free_silent(self, silent: Sequence[CniEndpointRecord]) -> Iterator[str]:
        """Free those whose link is gone by then: who gets one of their addresses next gets the MAC with it."""
        still = set(self.gone()) if silent else set()
        leaving = [one for one in silent if one in still]
        self._kernel.detach([one.id for one in leaving])
        for one in leaving:
            if self._is_unplugged(one) and self._forgotten(one):
                log.info("freed", container=one.container, problem=_problem(one))
                yield f"container {one.container}: {_problem(one)}"

    def _is_unplugged(self, endpoint: CniEndpointRecord) -> bool:
        try:
            self._kernel.unplug([endpoint.id])
        except DniError as error:
            log.warning("not freed: its link stays", container=endpoint.container, error=str(error))
            return False
        return True

    def _forgotten(self, endpoint: CniEndpointRecord) -> bool:
        """Free the addresses, unless it came back meanwhile: it made its namespace before it was recorded again."""
        with self._store.write() as tx:
            is_gone = bool(self._missing([endpoint])) and cni.find_endpoint(tx, endpoint.id) == endpoint
            if is_gone:
                cni.forget_endpoint(tx, endpoint.id, self._time.clock())
        return is_gone

    def _is_alive(self, endpoint: CniEndpointRecord) -> bool:
        try:
            alive = any(self._kernel.answers(interface.ip) for interface in endpoint.interfaces())
        except DniError as error:
            log.warning("not freed: it cannot be asked", container=endpoint.container, error=str(error))
            return True
        if alive:
            self._gone_since.pop(endpoint, None)
            log.warning("not freed: it answers", container=endpoint.container, problem=_problem(endpoint))
        return alive


def _problem(endpoint: CniEndpointRecord) -> str:
    addresses = ", ".join(str(interface.ip) for interface in endpoint.interfaces())
    return f"has {addresses} of overlay {endpoint.overlay!r}, but its network namespace {endpoint.sandbox} is gone"
