# SPDX-License-Identifier: Apache-2.0
"""What the agent does to store and kernel, each act in a process of its own, which the fuse may end.

    python -m tests.contract.agent_process FOLDER

Reads lines, each an act and its words, and answers with how the process ended that did it: 0, or -9 by the fuse.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path

from dni_driver.agent.collector import Collector
from dni_driver.agent.limiting import change_limits
from dni_driver.agent.ports import Time
from dni_driver.agent.reconciler import Reconciler
from dni_driver.core.errors import DniError
from dni_driver.core.invariants.collection import Graces, Sightings
from dni_driver.core.invariants.leaks import leaks
from dni_driver.core.views import DockerView
from dni_driver.kernel import Kernel, neighbours
from dni_driver.store import Store
from dni_driver.store.records import read_all
from tests.contract.fuse import Fuse
from tests.contract.mortal import leaping


class Agent:
    """The parts of the agent that write."""

    def __init__(self, store: Store, kernel: Kernel) -> None:
        """Take what they write to."""
        self._store, self._kernel = store, kernel
        self._reconciler = Reconciler(store, kernel)

    def mend(self) -> None:
        """Go round as often as it takes to make a container's link anew."""
        for _ in range(3):
            self._reconciler.round()

    def limit(self, address: str, rate: str) -> None:
        """Change a container's limits."""
        limits = {"egress": int(rate), "ingress": int(rate)}
        change_limits(self._store, self._reconciler, ip_address(address), limits)

    def collect(self) -> None:
        """Free all that Docker does not know, when it knows nothing."""
        docker = DockerView()
        collector = Collector(self._store, self._kernel, Sightings(Graces()), Time())
        collector.free(leaks(read_all(self._store), docker), docker)
        self._kernel.drain()
        self._reconciler.mend()


def main(folder: Path) -> None:
    """Do what is read, until there is nothing more to read."""
    fuse = Fuse(folder)
    fuse.lay()
    vars(neighbours)["_PATIENCE"] = 0.05
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # for what is logged
            os._exit(_do(folder, fuse, *line.split()))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _do(folder: Path, fuse: Fuse, act: str, *words: str) -> int:
    store = Store(folder / "dni.db", fuse.after_commit)
    kernel = Kernel(folder / "run", leaping())
    agent = Agent(store, kernel)
    acts: Mapping[str, Callable[..., None]] = {one.__name__: one for one in (agent.mend, agent.limit, agent.collect)}
    try:
        acts[act](*words)
    except DniError as error:
        sys.stderr.write(f"{act}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
