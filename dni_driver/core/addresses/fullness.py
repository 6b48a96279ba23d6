# SPDX-License-Identifier: Apache-2.0
"""How full an overlay is: each half of each agent subnet, of every agent that is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from dni_driver.core.addresses import allocation
from dni_driver.core.addresses.allocation import container_span
from dni_driver.core.addresses.counts import Counts, HalfCounts, Heard, Told
from dni_driver.core.agent_ip import in_order
from dni_driver.core.overlays import Address, AgentSubnet, Network
from dni_driver.core.records import HELD, AddressRecord, AddressState, Records, pool_id

Half = Literal["docker", "mesos"]

HALVES: tuple[Half, Half] = ("mesos", "docker")

Occupied = frozenset[Address] | str
"""The addresses that the Mesos side has of an overlay on this host, or why they are not known."""


class HalfUsage(msgspec.Struct, frozen=True, kw_only=True):
    """How full one half is, in addresses that containers can have; what is not known is None, and `why` says why."""

    half: str
    size: int
    used: int | None = None
    reserved: int | None = None
    free: int | None = None
    why: str | None = None


class SubnetUsage(msgspec.Struct, frozen=True, kw_only=True):
    """An agent subnet and its halves; `since` when its agent first had it, in seconds since 1970, where known."""

    subnet: str
    since: float | None
    mesos: HalfUsage
    docker: HalfUsage

    def of(self, half: Half) -> HalfUsage:
        """Answer one half."""
        return self.docker if half == "docker" else self.mesos


class AgentUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent holds of an overlay; `here`: it is this host.

    `as_of` is when that was so, in seconds since 1970: now where it is this host, else when the agent last told of a
    change; None for one that has told nothing.
    """

    agent: str
    here: bool
    subnets: list[SubnetUsage]
    as_of: float | None = None


class OverlayUsage(msgspec.Struct, frozen=True, kw_only=True):
    """An overlay, agent by agent, this host first; `problem` says why others may be missing, or otherwise by now."""

    overlay: str
    agents: list[AgentUsage]
    problem: str | None = None


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """An agent subnet and who holds it."""

    agent: Address
    held: AgentSubnet


class Local(msgspec.Struct, frozen=True, kw_only=True):
    """What is known on this host alone.

    `occupied` are the addresses of the Mesos side by overlay, or the reason why they are not known; `since`: since
    when agent subnets are held, in seconds since 1970.
    """

    records: Records
    occupied: Mapping[str, Occupied]
    since: Mapping[str, float]


def overlay_usage(overlay: str, local: Local, holdings: Iterable[Holding], heard: Heard, now: float) -> OverlayUsage:
    """Report an overlay: this host by its own records, others by what the registry tells of them and they told."""
    others: dict[Address, list[AgentSubnet]] = {}
    for one in holdings:
        if one.held.overlay == overlay and one.agent != local.records.agent:
            others.setdefault(one.agent, []).append(one.held)
    here = AgentUsage(
        agent=str(local.records.agent or "this host"),
        here=True,
        subnets=[subnet_usage(held, local) for held in held_here(local.records, overlay)],
        as_of=now,
    )
    there = [_elsewhere(agent, others[agent], heard.of(agent)) for agent in in_order(others)]
    return OverlayUsage(overlay=overlay, agents=[here, *there], problem=heard.problem)


def held_here(records: Records, overlay: str) -> list[AgentSubnet]:
    """Answer the agent subnets of an overlay that this host holds."""
    return [held for held in records.agent_subnets if held.overlay == overlay]


def subnet_usage(held: AgentSubnet, local: Local) -> SubnetUsage:
    """Count both halves of an agent subnet of this host."""
    return SubnetUsage(
        subnet=str(held.subnet),
        since=local.since.get(str(held.subnet)),
        mesos=_mesos_half(held, local),
        docker=_docker_half(held, local.records),
    )


def _docker_half(held: AgentSubnet, records: Records) -> HalfUsage:
    pool = pool_id(held.overlay, held.family)
    return _counted_half(
        held.overlay, held.docker_half, [one for one in records.addresses if one.pool == pool], records
    )


def _counted_half(overlay: str, half: Network, addresses: Iterable[AddressRecord], records: Records) -> HalfUsage:
    kept = [one for one in records.reservations if one.overlay == overlay]
    usage = allocation.usage([container_span(half)], addresses, kept)
    return HalfUsage(half=str(half), size=usage.size, used=usage.used, reserved=usage.reserved, free=usage.free)


def _mesos_half(held: AgentSubnet, local: Local) -> HalfUsage:
    """Count what the Mesos side says it has, and what dni itself has recorded there."""
    occupied = local.occupied.get(held.overlay, frozenset())
    if isinstance(occupied, str):
        return HalfUsage(half=str(held.mesos_half), size=container_span(held.mesos_half).size, why=occupied)
    pools = {pool.id for pool in local.records.pools if pool.overlay == held.overlay}
    found = {one.address: one for one in local.records.addresses if one.pool in pools and one.state in HELD}
    theirs = {one: AddressRecord(pool="", address=one, state=AddressState.BOUND) for one in occupied}
    return _counted_half(held.overlay, held.mesos_half, (theirs | found).values(), local.records)


def _elsewhere(agent: Address, held: Iterable[AgentSubnet], told: Told) -> AgentUsage:
    return AgentUsage(
        agent=str(agent),
        here=False,
        subnets=[_told_subnet(agent, one, told) for one in held],
        as_of=told.as_of if isinstance(told, Counts) else None,
    )


def _told_subnet(agent: Address, held: AgentSubnet, told: Told) -> SubnetUsage:
    counted = told.of(held) if isinstance(told, Counts) else None
    why = told if isinstance(told, str) else f"agent {agent} has not told of {held.subnet} yet: ask again in a moment"
    return SubnetUsage(
        subnet=str(held.subnet),
        since=counted.since if counted else None,
        mesos=_told_half(held.mesos_half, counted.mesos if counted else why),
        docker=_told_half(held.docker_half, counted.docker if counted else why),
    )


def _told_half(half: Network, told: HalfCounts | str) -> HalfUsage:
    if isinstance(told, str):
        return HalfUsage(half=str(half), size=container_span(half).size, why=told)
    return HalfUsage(half=str(half), size=told.size, used=told.used, reserved=told.reserved, free=told.free)


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Whether some more containers found addresses on an agent at `as_of`, as AgentUsage has it; `why` in words.

    None where that is not known.
    """

    overlay: str
    agent: str
    half: Half
    count: int
    room: bool | None
    free: int | None
    why: str
    as_of: float | None = None


def room(usage: OverlayUsage, agent: str | None, half: Half, count: int) -> Room:
    """Answer whether an agent (None: this host) has room for `count` containers in one of its halves."""
    found = next((one for one in usage.agents if one.agent == agent or (agent is None and one.here)), None)
    name = found.agent if found else str(agent)
    free, why = _free(usage, found, name, half)
    return Room(
        overlay=usage.overlay,
        agent=name,
        half=half,
        count=count,
        room=None if free is None else free >= count,
        free=free,
        why=why,
        as_of=found.as_of if found else None,
    )


def _free(usage: OverlayUsage, found: AgentUsage | None, name: str, half: Half) -> tuple[int | None, str]:
    if found is None and usage.problem:
        return None, f"it is not known what agent {name} holds; {usage.problem}"
    if found is None or not found.subnets:
        return 0, f"agent {name} holds no agent subnet of overlay {usage.overlay!r}"
    halves = [subnet.of(half) for subnet in found.subnets]
    unknown = next((one.why for one in halves if one.why), None)
    if unknown:
        return None, unknown
    free = min(_by_family(halves))
    return free, f"{free} free in the {half.capitalize()} half of agent {name}: {', '.join(map(_counted, halves))}"


def _by_family(halves: Iterable[HalfUsage]) -> list[int]:
    """Add up what is free in each family: a container needs an address of every one."""
    free: dict[bool, int] = {}
    for half in halves:
        is_ipv6 = ":" in half.half
        free[is_ipv6] = free.get(is_ipv6, 0) + (half.free or 0)
    return list(free.values())


def _counted(half: HalfUsage) -> str:
    return f"{half.used} of {half.size} used and {half.reserved} reserved in {half.half}"
