# SPDX-License-Identifier: Apache-2.0
"""What the agent answers to DC/OS, and forgets for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

import structlog

from dni_driver.core.agent_ip import in_order
from dni_driver.core.errors import NotFound
from dni_driver.core.mesos import dcos
from dni_driver.core.overlays import VTEP_SUBNET, Address, Overlay
from dni_driver.core.peers import Peer
from dni_driver.mesos.dcos_json import agent_of, cluster_of
from dni_driver.registry import Member, Registry
from dni_driver.registry.interface import still_alive
from dni_driver.store import Store, overlays, peers
from dni_driver.store.records import read_all

log = structlog.get_logger(__name__)


class DcosView:
    """Store and registry as DC/OS sees them. May be asked from any thread."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        joining_problems: Callable[[], Sequence[str]],
        knows_all: Callable[[], bool] = lambda: False,
    ) -> None:
        """`joining_problems` answers what keeps this host from taking part in overlays, in words.

        `knows_all` tells whether the store has all agents as the registry has them.
        """
        self._store = store
        self._registry = registry
        self._joining_problems = joining_problems
        self._knows_all = knows_all

    def agent(self) -> dcos.Agent:
        """Answer this agent; raise Unavailable before it knows its IP."""
        return agent_of(read_all(self._store), self._failures())

    def cluster(self) -> dcos.Cluster:
        """Answer all agents, as this host follows them; raise Unavailable where the registry cannot be had."""
        known = self._registry.overlays()
        return self._cluster(known, self._followed() or self._registry.members())

    def registered(self) -> dcos.Cluster:
        """Answer all agents as the registry has them at this moment, which it is asked for one by one."""
        return self._cluster(self._registry.overlays(), self._registry.members())

    def _cluster(self, known: Iterable[Overlay], agents: Iterable[Member | Peer]) -> dcos.Cluster:
        with self._store.read() as tx:
            vtep = peers.vtep(tx)
        return cluster_of(known, agents, vtep.ip.network if vtep else VTEP_SUBNET)

    def _followed(self) -> list[Peer]:
        """Answer all agents out of the store; none where it may not have them all."""
        if not self._knows_all():
            return []
        with self._store.read() as tx:
            agent_ip, vtep, held = overlays.agent_ip(tx), peers.vtep(tx), overlays.agent_subnets(tx)
            found = {peer.agent_ip: peer for peer in peers.every(tx)}
        if agent_ip is None or vtep is None:
            return []
        found[agent_ip] = Peer(agent_ip=agent_ip, vtep=vtep, subnets=tuple(held))
        return [found[agent] for agent in in_order(found)]

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
