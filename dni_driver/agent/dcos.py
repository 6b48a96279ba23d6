# SPDX-License-Identifier: Apache-2.0
"""What the agent answers to DC/OS, and forgets for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address

import structlog

from dni_driver.core import dcos
from dni_driver.core.errors import InUse
from dni_driver.core.fullness import Holding
from dni_driver.mesos.dcos_json import agent_of, cluster_of, members_of
from dni_driver.registry import Registry
from dni_driver.store import Store
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
        holdings = [Holding(agent=lease.agent_ip, held=lease.held) for lease in self._registry.leases()]
        return cluster_of(self._registry.overlays(), members_of(read_all(self._store), holdings))

    def purge(self, agents: Sequence[IPv4Address]) -> None:
        """Give up what agents hold that are gone; raise InUse for this one, before anything is given up."""
        me = read_all(self._store).agent
        if me in agents:
            raise InUse(f"agent {me} is this host, and it runs: stop dni there before it is deleted")
        for agent in agents:
            for lease in self._registry.leases(agent):
                self._registry.give_back(lease.held, agent)
                log.warning("given up for an agent that was deleted", agent=str(agent), subnet=str(lease.held.subnet))

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
