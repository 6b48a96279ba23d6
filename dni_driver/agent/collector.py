# SPDX-License-Identifier: Apache-2.0
"""Frees what has leaked, when it is certain that it has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from dni_driver.agent.ports import Kernel, Time
from dni_driver.agent.tally import Tally
from dni_driver.core.errors import DniError
from dni_driver.core.invariants.collection import Sightings
from dni_driver.core.invariants.leaks import (
    Leak,
    LostAddress,
    LostEndpoint,
    LostNetwork,
    LostPool,
    WrongUses,
    containers_addresses,
    describe,
    leaks,
)
from dni_driver.core.records import Records
from dni_driver.core.views import DockerView
from dni_driver.store import Store, Transaction, addresses, pools
from dni_driver.store.forget import forget_endpoint, forget_network
from dni_driver.store.records import read

log = structlog.get_logger(__name__)

PROBES = 16
"""How many addresses are asked at a time whether somebody has them."""


class Collector:
    """Holds the store against Docker."""

    def __init__(self, store: Store, kernel: Kernel, sightings: Sightings, time: Time) -> None:
        """Have looked at nothing yet."""
        self._store = store
        self._kernel = kernel
        self._sightings = sightings
        self._time = time
        self.reclaimed = Tally()

    @property
    def candidates(self) -> int:
        """Count what looks leaked and is being watched."""
        return self._sightings.waiting

    def collect(self, records: Records, docker: DockerView) -> list[str]:
        """Look once, Docker having been asked after the records were read; free what is due and say so."""
        return self.free(self._sightings.due(leaks(records, docker), self._time.monotonic()), docker)

    def blind(self) -> None:
        """Note that Docker could not be asked."""
        self._sightings.blind()

    def free(self, due: Iterable[Leak], docker: DockerView) -> list[str]:
        """Free what does not answer on the bridge and is still as it was seen; answer in words what was freed."""
        silent = self._silent(list(due))
        if not silent:
            return []
        gone: list[str] = []
        with self._store.write() as tx:
            unchanged = leaks(read(tx), docker)
            freed = sorted((leak for leak in silent if leak in unchanged), key=describe)
            for leak in freed:
                gone += _forget(tx, leak, self._time.clock())
        self._kernel.detach(gone)
        self.reclaimed.add(len(freed))
        return [_said(leak) for leak in freed]

    def _silent(self, due: Sequence[Leak]) -> list[Leak]:
        """Answer those that nobody answers for; an address takes a second to be silent, so many are asked at once."""
        if not due:
            return []
        with ThreadPoolExecutor(min(PROBES, len(due))) as probes:
            alive = probes.map(self._is_alive, due)
            return [leak for leak, is_alive in zip(due, alive, strict=True) if not is_alive]

    def _is_alive(self, leak: Leak) -> bool:
        about, problem = describe(leak)
        try:
            alive = [address for address in containers_addresses(leak) if self._kernel.answers(address)]
        except DniError as error:
            log.warning("not freed: it cannot be asked", about=about, problem=problem, error=str(error))
            return True
        if alive:
            self._sightings.start_over(leak)
            log.warning("not freed: it answers", about=about, problem=problem, address=str(alive[0]))
        return bool(alive)


def _said(leak: Leak) -> str:
    about, problem = describe(leak)
    log.info("freed", about=about, problem=problem)
    return f"{about}: {problem}"


def _forget(tx: Transaction, leak: Leak, now: float) -> Sequence[str]:
    """Take a leak out of the store; answer the endpoints whose links are left over."""
    match leak:
        case LostAddress(holding=held):
            addresses.free(tx, held.pool, held.address, now)
        case LostEndpoint(id=endpoint):
            forget_endpoint(tx, endpoint, now)
            return [endpoint]
        case LostNetwork(id=network):
            return forget_network(tx, network, now)
        case LostPool(id=pool):
            pools.forget_plain(tx, pool)
        case WrongUses(id=pool, right=right):
            pools.set_uses(tx, pool, right)
    return []
