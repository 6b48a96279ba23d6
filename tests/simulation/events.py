# SPDX-License-Identifier: Apache-2.0
"""Everything that users, time and accidents do to a host, each as one event.

An event that finds nothing to act on does what makes it possible next time: a stop with nothing running is a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal, Protocol, TypeVar

from hypothesis import strategies as st

from dni_driver.core.addresses.reservations import read_wish
from dni_driver.core.errors import KernelError
from tests.simulation.model import Network, Plan
from tests.simulation.plans import plans
from tests.simulation.runtime_events import adds, deletes, vanishings
from tests.simulation.world import World

T = TypeVar("T")
MOST_HALVES = 3
HALVES = {"dcos": "9.0.0.8/29", "dual": "10.64.0.8/29"}
"""The Docker halves of the first agent subnets."""
SUBNETS = {"dcos": "9.0.0.0/28", "dual": "10.64.0.0/28"}
"""The first agent subnets."""


class Event(Protocol):
    """Something that happens."""

    def befall(self, world: World) -> None:
        """Let it happen."""


def choose(pick: int, things: Sequence[T]) -> T:
    return things[pick % len(things)]


# What users do. With `now`, it is carried out at once; else it is under way until something moves it on.


@dataclass(frozen=True)
class Run:
    """`docker run`, on one network or two, with `--ip` or without, perhaps with a restart policy, or with `-p`."""

    on: tuple[int, ...] = (0,)
    address: int | None = None
    restarts: bool = False
    now: bool = True
    ports: tuple[int, ...] = ()

    def befall(self, world: World) -> None:
        """Make a container and start it."""
        world.boot_if_down()
        if not world.networks():
            CreateNetwork(Plan()).befall(world)
            return
        chosen = {network.id: network for network in (choose(pick, world.networks()) for pick in self.on)}
        wanted = {name: typed_address(network, self.address) for name, network in chosen.items()}
        container = world.new_container(wanted, restarts=self.restarts, ports=self.ports)
        world.begin("run", world.dockerd.start(container), container, now=self.now)


@dataclass(frozen=True)
class CreateNetwork:
    """`docker network create`."""

    plan: Plan
    now: bool = True

    def befall(self, world: World) -> None:
        """Begin to create it."""
        world.boot_if_down()
        world.begin("create network", world.dockerd.create_network(self.plan), now=self.now)


@dataclass(frozen=True)
class RemoveNetwork:
    """`docker network rm`, after a `docker rm -f` of what is on it where `forced`."""

    pick: int
    forced: bool
    now: bool = True

    def befall(self, world: World) -> None:
        """Begin to remove it."""
        world.boot_if_down()
        if not world.networks():
            CreateNetwork(Plan()).befall(world)
            return
        network = choose(self.pick, world.networks())
        for container in world.idle(running=True) if self.forced else ():
            if network.id in container.networks:
                world.begin("stop", world.dockerd.stop(container), container, now=True)
        world.begin("remove network", world.dockerd.delete_network(network), now=self.now)


@dataclass(frozen=True)
class Stop:
    """`docker stop`, or `docker restart`."""

    pick: int
    again: bool
    now: bool = True

    def befall(self, world: World) -> None:
        """Begin to stop a running container."""
        world.boot_if_down()
        if not world.idle(running=True):
            Run(on=(self.pick,)).befall(world)
            return
        container = choose(self.pick, world.idle(running=True))
        steps = world.dockerd.restart(container) if self.again else world.dockerd.stop(container)
        world.begin("stop", steps, container, now=self.now)


@dataclass(frozen=True)
class Start:
    """`docker start` of a stopped container, or `docker rm`."""

    pick: int
    remove: bool
    now: bool = True

    def befall(self, world: World) -> None:
        """Begin to start a stopped container, or take it away."""
        world.boot_if_down()
        if not world.idle(running=False):
            Run(on=(self.pick,)).befall(world)
            return
        container = choose(self.pick, world.idle(running=False))
        if self.remove:
            del world.dockerd.containers[container.name]
        else:
            world.begin("start", world.dockerd.start(container), container, now=self.now)


@dataclass(frozen=True)
class Connect:
    """`docker network connect` of a running container, or `disconnect` where it is connected."""

    pick: int
    to: int
    address: int | None
    now: bool = True

    def befall(self, world: World) -> None:
        """Begin to connect or disconnect."""
        world.boot_if_down()
        if not world.idle(running=True) or not world.networks():
            Run(on=(self.pick,)).befall(world)
            return
        container, network = choose(self.pick, world.idle(running=True)), choose(self.to, world.networks())
        if network.id in container.networks:
            steps = world.dockerd.disconnect(container, network.id)
        else:
            steps = world.dockerd.connect(container, network, typed_address(network, self.address))
        world.begin("connect", steps, container, now=self.now)


@dataclass(frozen=True)
class Calls:
    """What is under way goes some calls further, in some order."""

    picks: tuple[int, ...]

    def befall(self, world: World) -> None:
        """Move tasks on, or begin one."""
        if not world.dockerd.tasks:
            Run(on=self.picks[:1], now=False).befall(world)
        for pick in self.picks:
            if world.dockerd.tasks:
                world.dockerd.advance(choose(pick, world.dockerd.tasks))


@dataclass(frozen=True)
class Finish:
    """Everything under way is carried out."""

    def befall(self, world: World) -> None:
        """Finish it."""
        world.dockerd.finish()


@dataclass(frozen=True)
class Reserve:
    """`dni address reserve`: an address, two in a row, or whatever is next, perhaps for one of the containers."""

    overlay: str
    pick: int | None
    container: int | None
    two: bool = False

    def befall(self, world: World) -> None:
        """Ask the agent for it."""
        hosts = list(ip_network(SUBNETS[self.overlay]))
        first = choose(self.pick, hosts) if self.pick is not None else None
        addresses = f"{first}-{first + 1}" if first and self.two else str(first) if first else None
        container = f"c{self.container}" if self.container is not None else None
        world.without_answer(lambda: world.agent.reserve(read_wish(self.overlay, addresses, container)))


@dataclass(frozen=True)
class Release:
    """`dni address release` of something that is reserved."""

    pick: int

    def befall(self, world: World) -> None:
        """Ask the agent for it, or reserve something."""
        if not world.witness.records.reservations:
            Reserve("dcos", self.pick, None).befall(world)
            return
        chosen = choose(self.pick, world.witness.records.reservations)
        world.without_answer(lambda: world.agent.release(read_wish(chosen.overlay, str(chosen))))


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
class Repair:
    """`dni repair`: the collector's work, without its graces."""

    def befall(self, world: World) -> None:
        """Repair."""
        world.without_answer(world.agent.repair)


@dataclass(frozen=True)
class RemoveOverlay:
    """`dni overlay rm`."""

    overlay: str

    def befall(self, world: World) -> None:
        """Remove it, if nothing uses it."""
        world.without_answer(lambda: world.agent.remove(self.overlay))


# What goes wrong.


@dataclass(frozen=True)
class PluginWillDie:
    """The plugin is killed at one of its next writes, and restarted at once, or after some events."""

    points: int
    down_for: int

    def befall(self, world: World) -> None:
        """Light the fuse."""
        world.plugin_down_for = self.down_for
        if world.plugin.up:
            world.plugin.fuse.light(self.points)


@dataclass(frozen=True)
class PluginEnds:
    """The plugin is stopped, and started again after some events: calls in between are lost."""

    down_for: int

    def befall(self, world: World) -> None:
        """Stop it."""
        world.plugin_down_for = self.down_for
        world.plugin.end()


@dataclass(frozen=True)
class AgentWillDie:
    """The agent is killed at one of its next writes, and restarted; with 0, it is restarted now."""

    points: int

    def befall(self, world: World) -> None:
        """Light the fuse, or end it."""
        if self.points:
            world.agent.fuse.light(self.points)
        else:
            world.agent.end()
            world.without_answer(world.agent.restart)


@dataclass(frozen=True)
class KernelWillRefuse:
    """The next change of the kernel is refused."""

    def befall(self, world: World) -> None:
        """Prepare the refusal."""
        if not world.kernel.refusals:
            world.kernel.refusals.append(KernelError("the kernel says no"))


@dataclass(frozen=True)
class DockerdCrashes:
    """The engine is killed, perhaps while it waits for an answer; it starts when somebody needs it."""

    pick: int
    loses_answer: bool
    live_restore: bool

    def befall(self, world: World) -> None:
        """Kill it."""
        world.live_restore = self.live_restore
        if self.loses_answer and world.dockerd.tasks:
            world.dockerd.lose_answer(choose(self.pick, world.dockerd.tasks))
        else:
            world.dockerd.crash()


@dataclass(frozen=True)
class DockerdRestarts:
    """`systemctl restart docker`."""

    live_restore: bool

    def befall(self, world: World) -> None:
        """Restart it."""
        world.boot_if_down()
        if self.live_restore:
            world.dockerd.finish()
            world.dockerd.crash()
        else:
            world.dockerd.stop_gracefully()
        world.dockerd.boot(containers_live=self.live_restore)


@dataclass(frozen=True)
class Reboot:
    """The machine loses everything but its disk."""

    gracefully: bool

    def befall(self, world: World) -> None:
        """Reboot."""
        world.reboot(gracefully=self.gracefully and world.dockerd.up)


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


def typed_address(network: Network, pick: int | None) -> str:
    """Answer an `--ip` inside a network's first pool, where its user may type one; else an empty text.

    Where there is no IPAM driver it is a driver-opt.
    """
    if pick is not None and not network.has_ipam:
        half = HALVES.get(dict(network.plan.options)["overlay"])
        return str(choose(pick, list(ip_network(half)))) if half else ""
    pool = network.pools[0]
    return str(choose(pick, list(pool.network()))) if pick is not None and pool.typed.subnet else ""


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
