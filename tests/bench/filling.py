# SPDX-License-Identifier: Apache-2.0
"""Fills a registry in ZooKeeper with agents that live, many in each transaction.

What is there then is as they would leave it themselves; one by one they would take minutes to get there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from dni_driver.core.addresses import counts as codec
from dni_driver.core.addresses.counts import Counts, HalfCounts, SubnetCounts
from dni_driver.core.overlays import AgentSubnet, space_of
from dni_driver.registry import Host
from dni_driver.registry.admission import Life
from dni_driver.registry.zookeeper import ZooKeeperRegistry
from dni_driver.registry.zookeeper.layout import (
    AGENTS,
    ALIVE,
    COUNTS,
    JOURNAL,
    SEEN,
    Definition,
    Record,
    Slice,
    encode,
    of_agent,
    of_subnet,
    of_vtep,
)
from dni_driver.registry.zookeeper.link import Changes

TOGETHER = 128
"""As many as there are entries of the journal from one time that old ones are deleted to the next."""


class Newcomer(msgspec.Struct, frozen=True):
    """A host that is to be in the registry with its VTEP, and the agent subnet that it holds."""

    host: Host
    held: AgentSubnet


def fill(registry: ZooKeeperRegistry, newcomers: Sequence[Newcomer]) -> None:
    """Write agents into a registry that has their overlay; they live as long as its session."""
    definitions = {one.name: one for one in registry.ground.definitions()[0].overlays}
    for some in _portions(registry, newcomers):
        changes = registry.link.transaction()
        for one in some:
            _write(registry, changes, one, definitions[one.held.overlay])
        registry.ground.commit(changes, *(path for one in some for path in _paths(one, definitions)))


def _portions(registry: ZooKeeperRegistry, newcomers: Sequence[Newcomer]) -> Iterator[Sequence[Newcomer]]:
    """Cut them up so that each transaction ends where old entries of the journal are deleted."""
    stat = registry.link.exists(JOURNAL)
    first = 1 + -((stat.cversion + stat.numChildren) // 2) % TOGETHER
    yield newcomers[:first]
    for start in range(first, len(newcomers), TOGETHER):
        yield newcomers[start : start + TOGETHER]


def _paths(one: Newcomer, definitions: dict[str, Definition]) -> list[str]:
    """Answer all nodes of one: where it is recorded, lives, was seen, tells of itself, and holds what it has."""
    definition = definitions[one.held.overlay]
    space, _ = space_of(definition.overlay(), one.held.family)
    assert one.host.vtep is not None
    held = (of_vtep(one.host.vtep.ip), of_subnet(definition.number, one.held.subnet, space))
    return [*(of_agent(folder, one.host.agent_ip) for folder in (AGENTS, ALIVE, SEEN, COUNTS)), *held]


def _write(registry: ZooKeeperRegistry, changes: Changes, one: Newcomer, definition: Definition) -> None:
    host, (_, alive, seen, counts, vtep, subnet) = one.host, _paths(one, {definition.name: definition})
    record = Record(
        identity=host.identity,
        vtep=str(host.vtep.ip) if host.vtep else None,
        subnets=(Slice(definition.number, str(one.held.subnet)),),
    )
    registry.ground.put_record(changes, host.agent_ip, record, None)
    changes.create_fleeting(alive, encode(Life(identity=host.identity, boot=host.boot)))
    changes.create(seen)
    changes.create(counts, codec.write(_counts(one.held)))
    for path in (vtep, subnet):
        changes.create(path, str(host.agent_ip).encode())


def _counts(held: AgentSubnet) -> Counts:
    """Answer what one tells whose halves are half full."""
    half = HalfCounts(125, 60, 2, 63)
    subnet = SubnetCounts(overlay=held.overlay, subnet=str(held.subnet), since=1.7e9, mesos=half, docker=half)
    return Counts(as_of=1.7e9 + 0.5, subnets=(subnet,))
