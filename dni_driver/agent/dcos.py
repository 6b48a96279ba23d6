# SPDX-License-Identifier: Apache-2.0
"""What the agent answers to DC/OS, and forgets for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import structlog

from dni_driver.core.errors import NotFound
from dni_driver.core.mesos import dcos
from dni_driver.core.overlays import VTEP_SUBNET, Address
from dni_driver.mesos.dcos_json import agent_of, cluster_of
from dni_driver.registry import Registry
from dni_driver.registry.interface import still_alive
from dni_driver.store import Store, peers
from dni_driver.store.records import read_all

log = structlog.get_logger(__name__)


class DcosView:
    """Store and registry as DC/OS sees them. May be asked from any thread."""

    def __init__(self, store: Store, registry: Registry, joining_problems: Callable[[], Sequence[str]]) -> None:
        """`joining_problems` answers what keeps this host from taking part in overlays, in words."""
        self._store = store
        self._registry = registry
        self._joining_problems = joining_problems

    def agent(self) -> dcos.Agent:
        """Answer this agent; raise Unavailable before it knows its IP."""
        return agent_of(read_all(self._store), self._failures())

    def cluster(self) -> dcos.Cluster:
        """Answer all agents; raise Unavailable where the registry cannot be had."""
        with self._store.read() as tx:
            vtep = peers.vtep(tx)
        return cluster_of(
            self._registry.overlays(), self._registry.members(), vtep.ip.network if vtep else VTEP_SUBNET
        )

    def purge(self, agents: Sequence[Address]) -> None:
        """Forget agents that are gone; raise InUse where one is alive, before any is forgotten."""
        alive = {member.agent_ip for member in self._registry.members() if member.alive}
        for agent in alive.intersection(agents):
            raise still_alive(agent)
        for agent in agents:
            with suppress(NotFound):
                self._registry.forget(agent)
                log.warning("an agent was deleted, with all it held", agent=str(agent))

    def _failures(self) -> dict[str, str]:
        """Answer what does not work, by overlay; several texts are joined as DC/OS joins them."""
        failures: dict[str, list[str]] = {}
        for overlay, text in self._said():
            failures.setdefault(overlay, []).append(text)
        return {overlay: ";".join(texts) for overlay, texts in failures.items()}

    def _said(self) -> Iterator[tuple[str, str]]:
        for problem in self._joining_problems():
            about, colon, text = problem.partition(": ")
            if colon and about.startswith("overlay '"):
                yield about.removeprefix("overlay '").removesuffix("'"), text
