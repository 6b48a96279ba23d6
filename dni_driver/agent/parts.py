# SPDX-License-Identifier: Apache-2.0
"""What the agent is made of: each part with what it rests on, and with whom it wakes."""

from __future__ import annotations

import msgspec

from dni_driver.agent.cluster import Cluster
from dni_driver.agent.cni import Cni
from dni_driver.agent.collector import Collector
from dni_driver.agent.dcos import DcosView
from dni_driver.agent.defining import Defining
from dni_driver.agent.docker_look import DockerLook
from dni_driver.agent.following import Following
from dni_driver.agent.fullness import Fullness
from dni_driver.agent.hearing import Hearing
from dni_driver.agent.hosted import Hosted
from dni_driver.agent.identity import Identity
from dni_driver.agent.inspection import Inspection
from dni_driver.agent.joining import Joining
from dni_driver.agent.labelling import Labelling
from dni_driver.agent.loops import CLUSTER_PART, JOINING_PART, Loops
from dni_driver.agent.networking import Networking
from dni_driver.agent.options import Options
from dni_driver.agent.ports import Docker, Kernel, Time
from dni_driver.agent.presence import Presence
from dni_driver.agent.problems import Problems
from dni_driver.agent.reconciler import Reconciler
from dni_driver.agent.removal import Removal
from dni_driver.agent.reserving import Reserving
from dni_driver.agent.room import Leasing
from dni_driver.agent.steady import Steady
from dni_driver.agent.telling import Telling
from dni_driver.agent.whereabouts import Whereabouts
from dni_driver.core.invariants.collection import Sightings
from dni_driver.registry import Registry
from dni_driver.store import Store


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole agent rests on."""

    store: Store
    kernel: Kernel
    registry: Registry
    docker: Docker
    options: Options
    time: Time


class Parts:
    """The parts that do the agent's work; they are made in the order in which they rest on each other."""

    def __init__(self, ground: Ground, loops: Loops, problems: Problems) -> None:
        """Have none of them do anything yet."""
        self._loops = loops
        store, kernel, registry = ground.store, ground.kernel, ground.registry
        docker, options, time = ground.docker, ground.options, ground.time
        makes = options.makes_network
        self.identity = Identity(
            store, kernel.agent_address, options.agent_ip, options.reclaim_after, options.vtep_subnet
        )
        self.joining = Joining(store, registry, self.identity, options.default_overlay, time.clock, time.monotonic)
        self.presence = Presence(store, registry, self.joining, options.reclaim_after, time)
        hearing = Hearing(registry, time.monotonic)
        self.cluster = Cluster(store, registry, hearing, problems)
        self.following = Following(
            store,
            registry,
            self.identity,
            peers_changed=loops.kernel.wake,
            overlays_changed=loops.joining.wake,
            heard=lambda: problems.report(CLUSTER_PART, ()),
        )
        self.whereabouts = Whereabouts(self.identity, kernel.underlay, loops.joining.wake, time.monotonic)
        self.hosted = Hosted(store, registry, changed=loops.joining.wake)
        self.dcos = DcosView(store, registry, lambda: problems.of(JOINING_PART), lambda: self.following.is_current)
        self.reconciler = Reconciler(store, kernel)
        self.leasing = Leasing(store, registry, self.identity, self.reconciler.mend, self.joining.in_turn, time)
        self.fullness = Fullness(store, registry, hearing, time)
        self.telling = Telling(store, registry, self.joining, self.fullness, problems, time)
        self.reserving = Reserving(store, time.clock)
        self.cni = Cni(store, kernel, options.cni, time, loops.kernel.wake)
        self.networking = Networking(store, docker, makes, options.driver, time)
        self.defining = Defining(store, kernel, self.joining, self.networking, makes)
        self.removal = Removal(registry, self.identity, self.joining, self.networking, self.cni.withdraw)
        self.collector = Collector(store, kernel, Sightings(options.graces()), time)
        self.labelling = Labelling(store, self.reconciler)
        steady = Steady(time)
        self.docker_look = DockerLook(
            store, docker, self.collector, self.labelling, steady=steady, freed=self.something_freed
        )
        self.inspection = Inspection(store, kernel, docker, time, steady)

    def something_freed(self) -> None:
        """Have the kernel follow; and join again soon where this host could not give up what the registry told it to.

        What kept it from that may be gone now.
        """
        self._loops.kernel.wake()
        if self.joining.is_registered and not self.joining.is_settled:
            self._loops.joining.wake()
