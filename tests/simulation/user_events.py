# SPDX-License-Identifier: Apache-2.0
"""What users do to a host, each as one event.

With `now`, it is carried out at once; else it is under way until something moves it on. An event that finds nothing
to act on does what makes it possible next time: a stop with nothing running is a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from dni_driver.core.addresses.reservations import read_wish
from tests.simulation.model import Network, Plan
from tests.simulation.picks import choose
from tests.simulation.world import World

HALVES = {"dcos": "9.0.0.8/29", "dual": "10.64.0.8/29"}
"""The Docker halves of the first agent subnets."""
SUBNETS = {"dcos": "9.0.0.0/28", "dual": "10.64.0.0/28"}
"""The first agent subnets."""


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


def typed_address(network: Network, pick: int | None) -> str:
    """Answer an `--ip` inside a network's first pool, where its user may type one; else an empty text.

    Where there is no IPAM driver it is a driver-opt.
    """
    if pick is not None and not network.has_ipam:
        half = HALVES.get(dict(network.plan.options)["overlay"])
        return str(choose(pick, list(ip_network(half)))) if half else ""
    pool = network.pools[0]
    return str(choose(pick, list(pool.network()))) if pick is not None and pool.typed.subnet else ""
