# SPDX-License-Identifier: Apache-2.0
"""The loops of the agent, how often each goes round, and what their problems are called."""

from __future__ import annotations

from time import monotonic

from dni_driver.agent.loop import Loop, Pace
from dni_driver.agent.problems import Problems

JOINING = Pace(every=60.0)
KERNEL = Pace(every=5.0, settle=0.1, rest=2.0)
DOCKER = Pace(every=30.0, settle=2.0, rest=4.0)
"""A look costs dockerd a list of all containers: it has four fifths of the time for itself, and news may gather."""
EVENTS = Pace(every=10.0)
CNI = Pace(every=10.0)
NETWORKS = Pace(every=1.0)
ROOM = Pace(every=0.25)
"""Most looks ask the store for a number, and no more."""
FILLING = Pace(every=10.0)
TELLING = Pace(every=1.0)
STORE = Pace(every=1.0)
HOSTED = Pace(every=30.0)
CLUSTER = Pace(every=5.0)
PRESENCE = Pace(every=5.0, settle=0.5)
"""Each container that comes or goes may change what is told, and mostly does not."""
ADDRESS = Pace(every=5.0)

JOINING_PART = "registry"
CLUSTER_PART = "cluster"
EVENTS_PART = "docker events"


class Loops:
    """All of them, to be woken from any thread; what each does it is given when it is started."""

    def __init__(self, problems: Problems) -> None:
        """Do nothing yet."""
        self._problems = problems
        self._all: list[Loop] = []
        self.joining = self._loop(JOINING_PART, JOINING)
        self.following = self._loop(CLUSTER_PART, CLUSTER)
        self.presence = self._loop("presence", PRESENCE)
        self.address = self._loop("address", ADDRESS)
        self.room = self._loop("room", ROOM)
        self.kernel = self._loop("kernel", KERNEL)
        self.cni = self._loop("cni", CNI)
        self.news = self._loop("link news", EVENTS)
        self.docker = self._loop("docker", DOCKER)
        self.networks = self._loop("docker networks", NETWORKS)
        self.events = self._loop(EVENTS_PART, EVENTS)
        self.filling = self._loop("filling", FILLING)
        self.telling = self._loop("telling", TELLING)
        self.store = self._loop("store", STORE)
        self.hosted = self._loop("mesos", HOSTED)

    def _loop(self, part: str, pace: Pace) -> Loop:
        made = Loop(part, pace, self._problems)
        self._all.append(made)
        return made

    def stop(self) -> None:
        """Have none of them do a further step."""
        for loop in self._all:
            loop.stop()

    def join(self, seconds: float) -> None:
        """Return when their steps have ended, or after some seconds."""
        ends = monotonic() + seconds
        for loop in self._all:
            loop.join(max(0.0, ends - monotonic()))
