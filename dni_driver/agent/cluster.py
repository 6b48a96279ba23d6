# SPDX-License-Identifier: Apache-2.0
"""The agents of the cluster, for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_address

import msgspec
import structlog

from dni_driver.agent.hearing import Hearing
from dni_driver.agent.problems import Problems
from dni_driver.core.addresses.counts import Counts, Heard
from dni_driver.core.agent_ip import in_order
from dni_driver.core.cluster import AgentReport, ClusterReport, HeldReport
from dni_driver.core.deadline import deadline
from dni_driver.core.errors import DniError, InUse, StoreError, Unavailable
from dni_driver.core.overlays import Address, AgentSubnet
from dni_driver.core.problems import in_short
from dni_driver.core.records import Records
from dni_driver.registry import Member, Registry
from dni_driver.store import Store
from dni_driver.store.records import read_all

log = structlog.get_logger(__name__)

_STATUS_SECONDS = 8.0
"""How long `dni status` waits for the registry."""


class Cluster:
    """What registry and store know of agents, and what these told. May be asked from any thread."""

    def __init__(self, store: Store, registry: Registry, hearing: Hearing, problems: Problems) -> None:
        """Take what knows; `problems` are this host's."""
        self._store = store
        self._registry = registry
        self._hearing = hearing
        self._problems = problems

    def agents(self) -> list[AgentReport]:
        """Answer all agents, by IP; raise Unavailable where the registry cannot be had."""
        me, members = read_all(self._store).agent, self._registry.members()
        heard = self._heard([member.agent_ip for member in members if member.agent_ip != me])
        return [
            self._own(_member(member, here=True)) if member.agent_ip == me else _told(_member(member), heard)
            for member in members
        ]

    def report(self) -> ClusterReport:
        """Answer all agents; where the registry cannot be had, as it told of them last."""
        try:
            with deadline(_STATUS_SECONDS):
                return ClusterReport(agents=self.agents())
        except (Unavailable, StoreError) as error:
            known = _known(read_all(self._store))
            return ClusterReport(agents=[self._own(one) if one.here else one for one in known], problem=str(error))

    def forget(self, agent_ip: Address) -> None:
        """Forget an agent that is gone, and give up what it held; raise NotFound, or InUse where it lives."""
        if agent_ip == read_all(self._store).agent:
            raise InUse(f"agent {agent_ip} is this host, and it is alive: stop dni here, and forget it from another")
        self._registry.forget(agent_ip)
        log.warning("forgotten, with all that it held", agent=str(agent_ip))

    def _heard(self, agents: Collection[Address]) -> Heard:
        """Answer what other agents told; nothing where that cannot be known now."""
        try:
            return self._hearing.lately(agents) if agents else Heard()
        except DniError:
            return Heard()

    def _own(self, report: AgentReport) -> AgentReport:
        """Answer the report of this host with its problems of now."""
        said = in_short(self._problems.every())
        return msgspec.structs.replace(report, problems=list(said.lines), more_problems=said.more)


def _member(member: Member, *, here: bool = False) -> AgentReport:
    return AgentReport(
        agent=str(member.agent_ip),
        vtep=str(member.vtep.ip.ip) if member.vtep else None,
        subnets=_held(member.subnets),
        alive=member.alive,
        since=member.since or None,
        here=here,
    )


def _told(report: AgentReport, heard: Heard) -> AgentReport:
    """Answer the report of another agent with the problems that it told of."""
    told = heard.told.get(ip_address(report.agent))
    if not isinstance(told, Counts) or told.problems is None:
        return report
    said = in_short(told.problems.lines, told.problems.more)
    return msgspec.structs.replace(report, problems=list(said.lines), more_problems=said.more, as_of=told.as_of)


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
