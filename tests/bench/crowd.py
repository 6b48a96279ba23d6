# SPDX-License-Identifier: Apache-2.0
"""Many agents in one process: dni's own registry code, a session with ZooKeeper for each, and no kernel."""

from __future__ import annotations

import logging
import resource
import sys
import threading
import time
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import msgspec
import structlog

from dni_driver.agent.loop import Loop, Pace
from dni_driver.agent.problems import Problems
from dni_driver.core.overlays import define
from dni_driver.registry import Host, open_registry

DCOS = define("dcos", [ip_network("9.0.0.0/8")])
FIRST = IPv4Address("10.0.0.1")
_JOINING = Pace(every=60.0)
_GIVEN_UP = 1800.0
_SMALL_STACK = 1 << 18


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """Which agents a process is, and how many of all there will be: the first `followers` learn of all of them."""

    url: str
    first: int
    count: int
    of: int
    followers: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one agent: what it got, when, and how many attempts failed; seconds since 1970."""

    vtep: str
    subnet: str
    joined: float
    failures: int


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """What a process tells at the end of a phase; `cpu` is its own, in seconds, since it began."""

    outcomes: list[Outcome] = []
    ended: float = 0.0
    cpu: float = 0.0
    resident: float = 0.0


class Agent:
    """One agent: joins as dni's agent does, and again a little later where that fails."""

    def __init__(self, orders: Orders, number: int) -> None:
        """Do nothing yet."""
        self._orders = orders
        self._ip = FIRST + number
        self._failures = 0
        self.outcome: Outcome | None = None
        self.joined = threading.Event()
        self._loop = Loop(f"{number}", self._join, _JOINING, Problems())

    def start(self) -> None:
        """Connect, and join."""
        self._registry = open_registry(self._orders.url, Path())
        self._loop.start()

    def _join(self) -> tuple[str, ...]:
        self._failures += 1
        host = Host(agent_ip=self._ip, identity=str(self._ip), boot="boot")
        vtep = self._registry.register(host)
        self._registry.define(DCOS)
        held = self._registry.leases(self._ip)
        subnet = held[0].held if held else self._registry.lease(DCOS.name, 4, self._ip)
        self.outcome = Outcome(
            vtep=str(vtep.ip.ip), subnet=str(subnet.subnet), joined=time.time(), failures=self._failures - 1
        )
        self._loop.stop()
        self.joined.set()
        return ()

    def follow(self, done: threading.Semaphore) -> None:
        """Learn of all agents, in a thread of its own."""
        threading.Thread(target=self._follow, args=(done,), daemon=True).start()

    def _follow(self, done: threading.Semaphore) -> None:
        known: set[IPv4Address] = set()
        while len(known) < self._orders.of:
            known |= {peer.agent_ip for peer in self._registry.news(10.0).peers if peer.subnets}
        done.release()


def _tell(phase: Phase) -> None:
    print(msgspec.json.encode(phase).decode(), flush=True)  # noqa: T201 - to the process that measures


def _phase(outcomes: list[Outcome]) -> Phase:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Phase(
        outcomes=outcomes, ended=time.time(), cpu=used.ru_utime + used.ru_stime, resident=used.ru_maxrss / 1024
    )


def _wait_for_word() -> None:
    if not sys.stdin.readline():
        sys.exit("the process that measures is gone")


def run(orders: Orders) -> None:
    """Be a crowd: begin each phase when told to, and say how it went."""
    threading.stack_size(_SMALL_STACK)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    agents = [Agent(orders, orders.first + number) for number in range(orders.count)]
    following = agents[: max(0, orders.followers - orders.first)]
    done = threading.Semaphore(0)
    _tell(_phase([]))
    _wait_for_word()
    for agent in agents:
        agent.start()
    ends = time.monotonic() + _GIVEN_UP
    for agent in agents:
        agent.joined.wait(ends - time.monotonic())
    _tell(_phase([agent.outcome for agent in agents if agent.outcome]))
    _wait_for_word()
    for agent in following:
        agent.follow(done)
    for _ in following:
        done.acquire(timeout=ends - time.monotonic())
    _tell(_phase([]))
    _wait_for_word()


if __name__ == "__main__":
    run(msgspec.json.decode(sys.argv[1], type=Orders))
