# SPDX-License-Identifier: Apache-2.0
"""What a look at Docker brings: names, what has leaked, limits of labels, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dni_driver.agent.collector import Collector
from dni_driver.agent.labelling import Labelling
from dni_driver.agent.ports import Docker
from dni_driver.agent.steady import Steady
from dni_driver.agent.watcher import note_names
from dni_driver.core.addresses.reservations import strays
from dni_driver.core.errors import Unavailable
from dni_driver.core.invariants.docker import unknown_networks
from dni_driver.core.reports import DockerReport
from dni_driver.core.views import DockerView
from dni_driver.store import Store
from dni_driver.store.records import read_all


class DockerLook:
    """Looks at Docker, and has each part that cares about it take what is its own. `report`: how dockerd is."""

    def __init__(
        self,
        store: Store,
        docker: Docker,
        collector: Collector,
        labelling: Labelling,
        *,
        steady: Steady,
        freed: Callable[[], None],
    ) -> None:
        """Have asked nothing yet; `steady` is read at each look, `freed` called when something was freed."""
        self._store = store
        self._docker = docker
        self._collector = collector
        self._labelling = labelling
        self._steady = steady
        self._freed = freed
        self.report = DockerReport(reachable=False, error="not asked yet")

    def look(self) -> Sequence[str]:
        """Look once: take over names, free what is due; say who has not the address reserved for it."""
        self._steady()
        records = read_all(self._store)
        try:
            version = self._docker.version()
            docker = self._docker.view(records)
        except Unavailable as error:
            self.report = DockerReport(reachable=False, error=str(error))
            self._collector.blind()
            raise
        self.report = DockerReport(reachable=True, version=version)
        note_names(self._store, records, docker)
        if self._collector.collect(records, docker):
            self._freed()
        return [*self._lost(docker), *strays(read_all(self._store)), *self._labelling.look(docker)]

    def _lost(self, docker: DockerView) -> list[str]:
        """Say which networks Docker has that the store, read once more, does not know."""
        return [f"{one.about} {one.problem}: {one.mend}" for one in unknown_networks(read_all(self._store), docker)]
