# SPDX-License-Identifier: Apache-2.0
"""The agents of the cluster, for people."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from dni_driver.core.agent_ip import in_order
from dni_driver.core.cluster import AgentReport, ClusterReport, HeldReport
from dni_driver.core.deadline import deadline
from dni_driver.core.errors import InUse, StoreError, Unavailable
from dni_driver.core.overlays import Address, AgentSubnet
from dni_driver.core.records import Records
from dni_driver.registry import Registry
from dni_driver.store import Store
from dni_driver.store.records import read_all

log = structlog.get_logger(__name__)

_STATUS_SECONDS = 8.0
"""How long `dni status` waits for the registry."""


class Cluster:
    """What registry and store know of agents. May be asked from any thread."""

    def __init__(self, store: Store, registry: Registry) -> None:
        """Take what knows."""
        self._store = store
        self._registry = registry

    def agents(self) -> list[AgentReport]:
        """Answer all agents, by IP; raise Unavailable where the registry cannot be had."""
        me = read_all(self._store).agent
        return [
            AgentReport(
                agent=str(member.agent_ip),
                vtep=str(member.vtep.ip.ip) if member.vtep else None,
                subnets=_held(member.subnets),
                alive=member.alive,
                since=member.since or None,
                here=member.agent_ip == me,
            )
            for member in self._registry.members()
        ]

    def report(self) -> ClusterReport:
        """Answer all agents; where the registry cannot be had, as it told of them last."""
        try:
            with deadline(_STATUS_SECONDS):
                return ClusterReport(agents=self.agents())
        except (Unavailable, StoreError) as error:
            return ClusterReport(agents=list(_known(read_all(self._store))), problem=str(error))

    def forget(self, agent_ip: Address) -> None:
        """Forget an agent that is gone, and give up what it held; raise NotFound, or InUse where it lives."""
        if agent_ip == read_all(self._store).agent:
            raise InUse(f"agent {agent_ip} is this host, and it is alive: stop dni here, and forget it from another")
        self._registry.forget(agent_ip)
        log.warning("forgotten, with all that it held", agent=str(agent_ip))


def _known(records: Records) -> Iterable[AgentReport]:
    """Report the agents that the store knows."""
    held = {peer.agent_ip: peer.subnets for peer in records.peers}
    vteps = {peer.agent_ip: peer.vtep for peer in records.peers}
    if records.agent is not None:
        held[records.agent] = tuple(records.agent_subnets)
        vteps |= {records.agent: records.vtep} if records.vtep else {}
    for agent in in_order(held):
        here = agent == records.agent
        yield AgentReport(
            agent=str(agent),
            vtep=str(vteps[agent].ip.ip) if agent in vteps else None,
            subnets=_held(held[agent]),
            alive=here or None,
            since=None,
            here=here,
        )


def _held(subnets: Iterable[AgentSubnet]) -> list[HeldReport]:
    return [HeldReport(overlay=one.overlay, subnet=str(one.subnet)) for one in subnets]
