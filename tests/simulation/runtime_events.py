# SPDX-License-Identifier: Apache-2.0
"""What a runtime of CNI does beside Docker's users, each as one event; the agent may be killed at any write of it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from hypothesis import strategies as st

from tests.simulation.model import Placed
from tests.simulation.world import World

HALVES = {"dcos": "9.0.0.0/29", "dual": "10.64.0.0/29", "six": "fd06::/125"}
"""The Mesos halves of the first agent subnets."""

_PATHS = 8
"""Namespaces are made at so many paths, again and again."""


@dataclass(frozen=True)
class Add:
    """ADD for new containers in a row; once more for those that are there.

    The first may ask for an `address`, and the agent is killed at its `dies`-th write, 0 for never; the runtime then
    tries `again`, or not.
    """

    overlay: str
    path: int
    address: int | None = None
    dies: int = 0
    again: bool = False
    count: int = 1

    def befall(self, world: World) -> None:
        """Call it."""
        for number in range(self.count):
            container = world.runtime.prepare(self.overlay, f"/run/netns/{(self.path + number) % _PATHS}")
            if number:
                world.runtime.add(container, None)
            else:
                self._place(world, container)

    def _place(self, world: World, container: Placed) -> None:
        half = HALVES.get(container.overlay)
        asked = ip_network(half)[self.address] if half and self.address is not None else None
        world.agent.fuse.light(self.dies)
        world.runtime.add(container, asked if not container.addresses else None)
        world.agent.fuse.put_out()
        if self.again and not container.addresses:
            world.runtime.add(container, asked)


@dataclass(frozen=True)
class Delete:
    """DEL, at which the agent may be killed and which is tried `again` then, or not."""

    pick: int
    dies: int = 0
    again: bool = False

    def befall(self, world: World) -> None:
        """Call it, or ADD where there is no container."""
        container = _chosen(world, self.pick)
        if container is None:
            return
        world.agent.fuse.light(self.dies)
        gone = world.runtime.delete(container)
        world.agent.fuse.put_out()
        if self.again and not gone:
            world.runtime.delete(container)


@dataclass(frozen=True)
class Vanish:
    """A container ends, and its runtime says nothing."""

    pick: int

    def befall(self, world: World) -> None:
        """Take its namespace away, or ADD where there is no container."""
        container = _chosen(world, self.pick)
        if container is not None:
            world.runtime.lose(container)


def _chosen(world: World, pick: int) -> Placed | None:
    containers = world.runtime.containers
    if not containers:
        Add("dcos", pick % _PATHS).befall(world)
        return None
    return containers[pick % len(containers)]


_overlays = st.sampled_from(["dcos", "dcos", "dcos", "dcos", "dual", "dual", "six", "tiny", "dev"])
_addresses = st.sampled_from([None, None, None, None, None, 0, 1, 2, 3, 4, 5, 6, 7])
_dies = st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7])
_counts = st.sampled_from([1, 1, 1, 5, 7])

adds = st.builds(Add, _overlays, st.integers(0, _PATHS - 1), _addresses, _dies, st.booleans(), _counts)
deletes = st.builds(Delete, st.integers(0, 7), _dies, st.booleans())
vanishings = st.builds(Vanish, st.integers(0, 7))
