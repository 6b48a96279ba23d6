# SPDX-License-Identifier: Apache-2.0
"""Many agents in one process: dni's own registry code, sessions with ZooKeeper, and no kernel.

Who follows has a session of its own; where there are fewer than agents, the others share them.
"""

from __future__ import annotations

import logging
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, ip_network
from itertools import cycle, islice
from pathlib import Path

import msgspec
import structlog

from dni_driver.agent.loop import Loop, Pace
from dni_driver.agent.problems import Problems
from dni_driver.core.errors import DniError
from dni_driver.core.overlays import Address, define
from dni_driver.registry import Host, Registry, open_registry

DCOS = define("dcos", [ip_network("9.0.0.0/8")])
VTEPS = IPv4Network("44.128.0.0/12")
FIRST = IPv4Address("10.0.0.1")
_JOINING = Pace(every=60.0)
_GIVEN_UP = 1800.0
_SMALL_STACK = 1 << 18


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """Which agents a process is, by how many sessions, and how many of them follow what the others do."""

    url: str
    first: int
    count: int
    sessions: int
    followers: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an agent: what it got, when (seconds since 1970), after how long, how many attempts failed."""

    vtep: str
    subnet: str
    joined: float
    seconds: float
    failures: int


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """What a process tells at the end of a phase; `cpu` is its own in seconds since it began."""

    outcomes: list[Outcome] = []
    ended: float
    cpu: float


def join(registry: Registry, agent_ip: IPv4Address) -> tuple[str, str]:
    """Ask a registry for what a joining agent asks it for; answer its VTEP and its agent subnet."""
    vtep = registry.register(Host(agent_ip=agent_ip, identity=str(agent_ip), boot="boot", vtep_subnet=VTEPS))
    registry.define(DCOS)
    held = registry.leases(agent_ip)
    subnet = held[0].held if held else registry.lease(DCOS.name, 4, agent_ip)
    return str(vtep.ip.ip), str(subnet.subnet)


class Agent:
    """One agent: joins as dni's agent does, and again a little later where that fails; follows when told to."""

    def __init__(self, registry: Registry, number: int) -> None:
        """Do nothing yet."""
        self._registry = registry
        self._ip = FIRST + number
        self._attempts = 0
        self._started = 0.0
        self._loop = Loop(str(number), _JOINING, Problems())
        self._knows = threading.Condition()
        self._known: set[Address] = set()
        self._following: threading.Thread | None = None
        self.outcome: Outcome | None = None
        self.joined = threading.Event()

    def start(self) -> None:
        """Join."""
        self._started = time.time()
        self._loop.start(self._join)

    def _join(self) -> tuple[str, ...]:
        self._attempts += 1
        vtep, subnet = join(self._registry, self._ip)
        now = time.time()
        self.outcome = Outcome(
            vtep=vtep, subnet=subnet, joined=now, seconds=now - self._started, failures=self._attempts - 1
        )
        self._loop.stop()
        self.joined.set()
        return ()

    def follow(self) -> None:
        """Follow what the others do, in a thread of its own; once more does nothing."""
        if self._following is None:
            self._following = threading.Thread(target=self._follow, daemon=True)
            self._following.start()

    def _follow(self) -> None:
        while True:
            with suppress(DniError):
                news = self._registry.news(10.0)
                with self._knows:
                    self._known |= {peer.agent_ip for peer in news.peers if peer.subnets}
                    self._knows.notify_all()

    def wait_until_known(self, number: int, seconds: float) -> None:
        """Return when it knows so many agents."""
        with self._knows:
            self._knows.wait_for(lambda: len(self._known) >= number, seconds)


class Crowd:
    """The agents of this process, who do what they are told word by word."""

    def __init__(self, orders: Orders) -> None:
        """Make them."""
        registries = [open_registry(orders.url, Path()) for _ in range(orders.sessions)]
        shared = islice(cycle(registries), orders.count)
        self._agents = [Agent(registry, orders.first + number) for number, registry in enumerate(shared)]
        self._followers = self._agents[: orders.followers]
        self._ends = time.monotonic() + _GIVEN_UP
        self._words: dict[str, Callable[[int], Sequence[Outcome]]] = {
            "join": self._join,
            "follow": self._follow,
            "know": self._know,
        }

    def do(self, line: str) -> Phase:
        """Do what a line says, a word and a number."""
        word, number = line.split()
        outcomes = list(self._words[word](int(number)))
        used = resource.getrusage(resource.RUSAGE_SELF)
        return Phase(outcomes=outcomes, ended=time.time(), cpu=used.ru_utime + used.ru_stime)

    def _left(self) -> float:
        return self._ends - time.monotonic()

    def _join(self, at_once: int) -> Sequence[Outcome]:
        """Have all join, so many at a time."""
        for first in range(0, len(self._agents), at_once):
            wave = self._agents[first : first + at_once]
            for agent in wave:
                agent.start()
            for agent in wave:
                agent.joined.wait(self._left())
        return [agent.outcome for agent in self._agents if agent.outcome]

    def _follow(self, number: int) -> Sequence[Outcome]:
        for agent in self._followers:
            agent.follow()
        return self._know(number)

    def _know(self, number: int) -> Sequence[Outcome]:
        for agent in self._followers:
            agent.wait_until_known(number, self._left())
        return []


def main() -> None:
    """Be a crowd until there are no more words."""
    threading.stack_size(_SMALL_STACK)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    crowd = Crowd(msgspec.json.decode(sys.argv[1], type=Orders))
    for line in sys.stdin:
        sys.stdout.write(f"{msgspec.json.encode(crowd.do(line)).decode()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
