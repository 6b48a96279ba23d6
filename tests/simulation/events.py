# SPDX-License-Identifier: Apache-2.0
"""Everything that users, time and accidents do to a host, the usual more often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from hypothesis import strategies as st

from tests.simulation.accidents import (
    AgentWillDie,
    DockerdCrashes,
    DockerdRestarts,
    KernelWillRefuse,
    PluginEnds,
    PluginWillDie,
    Reboot,
)
from tests.simulation.plans import plans
from tests.simulation.runtime_events import adds, deletes, vanishings
from tests.simulation.user_events import (
    Calls,
    Connect,
    CreateNetwork,
    Finish,
    Release,
    RemoveNetwork,
    RemoveOverlay,
    Repair,
    Reserve,
    Run,
    Start,
    Stop,
)
from tests.simulation.world import World

MOST_HALVES = 3


class Event(Protocol):
    """Something that happens."""

    def befall(self, world: World) -> None:
        """Let it happen."""


# What the agent does, and time.


@dataclass(frozen=True)
class Look:
    """Some time goes by; then the agent reads the records, asks Docker, and frees what is due.

    `between` of the tasks under way move on between its reading and Docker's answer.
    """

    after: float
    between: int

    def befall(self, world: World) -> None:
        """Look once."""
        world.pass_time(self.after)
        world.look(self.between)


@dataclass(frozen=True)
class SetClock:
    """Somebody sets the clock; only what measures durations does not notice."""

    seconds: float

    def befall(self, world: World) -> None:
        """Set it."""
        world.clock.pass_by(self.seconds)


@dataclass(frozen=True)
class LeaseMore:
    """The agent leases one more agent subnet, up to three."""

    overlay: str
    family: Literal[4, 6]

    def befall(self, world: World) -> None:
        """Lease it."""
        if len(world.witness.records.halves(self.overlay, self.family)) < MOST_HALVES:
            world.lease_more(self.overlay, self.family)


@dataclass(frozen=True)
class MakeRoom:
    """Some time goes by; then the agent sees whether room is scarce, or something needed by nobody."""

    after: float

    def befall(self, world: World) -> None:
        """Look once."""
        world.pass_time(self.after)
        world.make_room()


@dataclass(frozen=True)
class AllIsQuiet:
    """Faults end, and the collector sees everything long enough: nothing has leaked."""

    def befall(self, world: World) -> None:
        """Wait for it, and check; what people have reserved is not the collector's."""
        reserved = world.witness.records.reservations
        world.settle()
        assert world.witness.records.reservations == reserved
        world.witness.check_quiet()
        assert world.agent.leased() == set(world.witness.records.agent_subnets), "registry and store disagree"


_picks = st.integers(0, 15)
_now = st.sampled_from([True, False])
_addresses = st.none() | _picks
_containers = st.none() | st.integers(1, 9)
_ports = st.sampled_from([(), (), (), (8080,), (8080,), (8081, 0), (0, 0), (32769,)])
_down_for = st.sampled_from([0, 0, 1, 3])

_kinds: tuple[tuple[int, st.SearchStrategy[Event]], ...] = (
    (6, st.builds(Run, st.lists(_picks, min_size=1, max_size=2).map(tuple), _addresses, st.booleans(), _now, _ports)),
    (5, st.builds(Stop, _picks, st.booleans(), _now)),
    (3, st.builds(Start, _picks, st.booleans(), _now)),
    (3, st.builds(Connect, _picks, _picks, _addresses, _now)),
    (4, st.builds(CreateNetwork, plans, _now)),
    (2, st.builds(RemoveNetwork, _picks, st.booleans(), _now)),
    (5, adds),
    (3, deletes),
    (1, vanishings),
    (6, st.builds(Calls, st.lists(_picks, min_size=1, max_size=6).map(tuple))),
    (2, st.builds(Finish)),
    (4, st.builds(Look, st.sampled_from([1.0, 31.0, 121.0, 901.0]), st.sampled_from([0, 0, 1, 3]))),
    (1, st.builds(SetClock, st.sampled_from([-86400.0, -130.0, 130.0, 86400.0]))),
    (1, st.sampled_from([LeaseMore("dcos", 4), LeaseMore("dual", 4), LeaseMore("dual", 6)])),
    (3, st.builds(MakeRoom, st.sampled_from([0.0, 6.0, 61.0, 3601.0, 3601.0]))),
    (1, st.builds(Repair)),
    (2, st.builds(Reserve, st.sampled_from(["dcos", "dcos", "dual"]), _addresses, _containers, st.booleans())),
    (1, st.builds(Release, _picks)),
    (1, st.builds(RemoveOverlay, st.sampled_from(["tiny", "dev", "dual"]))),
    (4, st.builds(PluginWillDie, st.integers(1, 6), _down_for)),
    (1, st.builds(PluginEnds, st.integers(1, 3))),
    (1, st.builds(AgentWillDie, st.integers(0, 3))),
    (1, st.builds(KernelWillRefuse)),
    (2, st.builds(DockerdCrashes, _picks, st.booleans(), st.booleans())),
    (1, st.builds(DockerdRestarts, st.booleans())),
    (1, st.builds(Reboot, st.booleans())),
    (1, st.builds(AllIsQuiet)),
)

events: st.SearchStrategy[Event] = st.sampled_from([kind for weight, kind in _kinds for _ in range(weight)]).flatmap(
    lambda kind: kind
)
"""Any event, the usual ones more often."""
