# SPDX-License-Identifier: Apache-2.0
"""A whole agent among many: its own process, a real registry and kernel; the others are in the registry alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import msgspec

from dni_driver.console.client import Console
from dni_driver.core.overlays import AgentSubnet, Network
from dni_driver.core.peers import Vtep
from dni_driver.registry import Host, open_registry
from dni_driver.registry.zookeeper import ZooKeeperRegistry
from tests.bench.figures import Figure, median_ms, show
from tests.bench.filling import Newcomer, fill
from tests.lab import LabError
from tests.lab.zookeeper import running
from tests.root.ground import Namespace

MANY = 10_000
ROUNDS = 7
JOINS, CHANGES, MOVES, LEAVES = "one joins", "one has one more agent subnet", "one has another address", "one leaves"

_VTEPS = IPv4Network("44.128.0.0/12")
_AGENT, _FIRST = IPv4Address("10.0.0.1"), IPv4Address("10.1.0.0")
_QUIET_SECONDS = 15.0
_LONGEST = 300.0
_REST = 1.0
_LOOKS_EVERY = 0.004


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that something took, and CPU seconds of the agent and what it started."""

    seconds: float
    cpu: float


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; sizes in MiB, `idle` in CPU seconds an hour.

    `asked` is what it costs to say how full all agents are, and `among_many_asked` the memory after that.
    """

    agents: int
    alone: float
    among_many: float
    all_join: Cost
    from_nothing: Cost
    idle: float
    asked: Cost
    among_many_asked: float
    single: dict[str, list[float]]


class World:
    """A host with an agent process, and a registry in which others can be made to be."""

    def __init__(self, stack: ExitStack) -> None:
        """Start ZooKeeper; no agent yet."""
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running(self.folder / "zookeeper"))
        self.url = f"zookeeper://{server.address}/dni"
        self.registry = self.connect()
        stack.callback(self.registry.close)

    def connect(self) -> ZooKeeperRegistry:
        """Open the registry once more."""
        registry = open_registry(self.url, Path())
        assert isinstance(registry, ZooKeeperRegistry)
        return registry

    @contextmanager
    def agent(self, name: str) -> Iterator[int]:
        """Give the process of an agent with a store of its own."""
        here = self.folder / name
        settings = {
            "DNI_AGENT_IP": str(_AGENT),
            "DNI_REGISTRY_URL": self.url,
            "DNI_STORE_DIRECTORY": str(here / "store"),
            "DNI_RUN_DIRECTORY": str(here / "run"),
            "DNI_API_SOCKET": str(here / "api.sock"),
            "DNI_PLUGIN_SOCKET": str(here / "plugin.sock"),
            "DNI_DOCKER_SOCKET": str(here / "no-docker.sock"),
            "DNI_OVERLAY_VTEP_SUBNET": str(_VTEPS),
        }
        here.mkdir()
        with (here / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dni_driver", "serve", "agent"],
                env={**os.environ, **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(20)

    def populate(self, many: int) -> None:
        """Have many agents in the registry, each with an agent subnet."""
        fill(self.registry, [Newcomer(_other(number), _subnet(number)) for number in range(1, many + 1)])

    def routes(self) -> int:
        """Count the routes to others' agent subnets."""
        listed = subprocess.run(["ip", "route", "show", "proto", "64"], capture_output=True, text=True, check=True)
        return listed.stdout.count("\n")

    def until(self, happened: Callable[[], bool], every: float = _LOOKS_EVERY) -> float:
        """Wait for something; answer the time at which it was so."""
        ends = time.perf_counter() + _LONGEST
        while not happened():
            if time.perf_counter() > ends:
                raise LabError("the agent does not come to know the others")
            time.sleep(every)
        return time.perf_counter()


def _other(number: int, **more: object) -> Host:
    vtep = Vtep(IPv4Interface((_VTEPS.network_address + number + 1, _VTEPS.prefixlen)))
    values = {"agent_ip": _FIRST + number, "identity": f"other {number}", "boot": "boot", "vtep": vtep, **more}
    return Host(**values)  # type: ignore[arg-type]


def _subnet(number: int) -> AgentSubnet:
    return AgentSubnet(overlay="dcos", subnet=IPv4Network((int(IPv4Address("9.16.0.0")) + (number << 8), 24)))


def _has_route(subnet: Network | str, table: str = "main") -> bool:
    command = ["ip", "route", "show", "exact", str(subnet), "table", table]
    return bool(subprocess.run(command, capture_output=True, text=True, check=False).stdout)


def _pss(pid: int) -> float:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def _cpu(pid: int) -> float:
    """Answer the CPU seconds of a process and of those it started that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def measure(many: int = MANY, rounds: int = ROUNDS) -> Findings:
    """Have an agent live through a cluster that grows and changes, and start in one that is there."""
    with Namespace() as host:
        host.sh("ip link add eth0 type veth peer name eth1", "ip link set eth0 up", "ip link set eth1 up")
        host.sh(f"ip addr add {_AGENT}/8 dev eth0")
        return host.run(_measure, many, rounds)


def _measure(many: int, rounds: int) -> Findings:
    with ExitStack() as stack:
        world = World(stack)
        with world.agent("first") as pid:
            world.until(lambda: bool(world.registry.members()), 0.1)
            time.sleep(_QUIET_SECONDS)
            alone, all_join = _pss(pid), _grow(world, pid, many)
            time.sleep(_QUIET_SECONDS)
            before = _cpu(pid)
            time.sleep(_QUIET_SECONDS)
            idle, among_many = (_cpu(pid) - before) * 3600 / _QUIET_SECONDS, _pss(pid)
            asked = _ask(world, pid, many)
            asked_size = _pss(pid)
            single = _single(world, many, rounds)
        subprocess.run(["ip", "link", "del", "vtep1024"], check=True)
        began = time.perf_counter()
        with world.agent("second") as pid:
            ended = world.until(lambda: world.routes() >= many, 0.1)
            from_nothing = Cost(seconds=ended - began, cpu=_cpu(pid))
    return Findings(
        agents=many,
        alone=alone,
        among_many=among_many,
        all_join=all_join,
        from_nothing=from_nothing,
        idle=idle,
        asked=asked,
        among_many_asked=asked_size,
        single=single,
    )


def _grow(world: World, pid: int, many: int) -> Cost:
    """Have all others join while the agent follows."""
    cpu, began = _cpu(pid), time.perf_counter()
    world.populate(many)
    ended = world.until(lambda: world.routes() >= many, 0.5)
    return Cost(seconds=ended - began, cpu=_cpu(pid) - cpu)


def _ask(world: World, pid: int, many: int) -> Cost:
    """Ask how full all agents are."""
    console = Console(world.folder / "first" / "api.sock")
    cpu, began = _cpu(pid), time.perf_counter()
    agents = console.get("/v1/overlays/dcos/usage")["agents"]
    ended = time.perf_counter()
    known = [agent for agent in agents if agent["subnets"] and agent["subnets"][0]["docker"]["free"] is not None]
    if len(known) <= many:
        raise LabError(f"of {many} agents {len(known)} are known")
    return Cost(seconds=ended - began, cpu=_cpu(pid) - cpu)


def _single(world: World, many: int, rounds: int) -> dict[str, list[float]]:
    """Have one join, change, move and leave, again and again; the seconds from each until the kernel has it."""
    taken: dict[str, list[float]] = {JOINS: [], CHANGES: [], MOVES: [], LEAVES: []}
    for number in range(many + 1, many + 1 + rounds):
        other, theirs, first = world.connect(), _FIRST + number, _subnet(number)
        second, elsewhere = _subnet(number + 20_000), theirs + (1 << 16)
        other.register(_other(number))
        steps: dict[str, tuple[Callable[[], object], Callable[[], bool]]] = {
            JOINS: (partial(other.confirm, first, theirs), partial(_has_route, first.subnet)),
            CHANGES: (partial(other.confirm, second, theirs), partial(_has_route, second.subnet)),
            MOVES: (
                partial(other.register, _other(number, agent_ip=elsewhere, formerly=theirs)),
                partial(_has_route, f"{elsewhere}/32", "42"),
            ),
        }
        for name, (change, is_known) in steps.items():
            taken[name].append(_timed(world, change, is_known))
        other.close()
        is_gone = partial(_has_no_route, first.subnet)
        taken[LEAVES].append(_timed(world, partial(world.registry.forget, elsewhere), is_gone))
    return taken


def _timed(world: World, change: Callable[[], object], is_known: Callable[[], bool]) -> float:
    time.sleep(_REST)
    began = time.perf_counter()
    change()
    return world.until(is_known) - began


def _has_no_route(subnet: Network) -> bool:
    return not _has_route(subnet)


def figures(found: Findings) -> list[Figure]:
    """Answer what it costs an agent to be among many."""
    many = found.agents
    return [
        Figure(
            name=f"agent: {many} join within {found.all_join.seconds:.0f} s, CPU",
            value=found.all_join.cpu * 1000,
            unit="ms",
        ),
        Figure(
            name=f"agent: started among {many}, until the kernel has all",
            value=found.from_nothing.seconds * 1000,
            unit="ms",
        ),
        Figure(name="  CPU of that", value=found.from_nothing.cpu * 1000, unit="ms"),
        *(
            Figure(name=f"agent among {many}: {what}, until the kernel has it", value=median_ms(taken), unit="ms")
            for what, taken in found.single.items()
        ),
        Figure(name="agent: memory alone (PSS)", value=found.alone, unit="MiB"),
        Figure(name=f"agent: memory among {many} (PSS)", value=found.among_many, unit="MiB"),
        Figure(name=f"agent: says how full all {many} are", value=found.asked.seconds * 1000, unit="ms"),
        Figure(name="  CPU of that", value=found.asked.cpu * 1000, unit="ms"),
        Figure(name="  memory after that (PSS)", value=found.among_many_asked, unit="MiB"),
        Figure(name=f"agent: idle among {many}, CPU a minute", value=found.idle / 60 * 1000, unit="ms"),
    ]


def main() -> None:
    """`python -m tests.bench.agent [NUMBER]`: measure this alone."""
    try:
        found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else MANY)
    except LabError as error:
        sys.exit(f"bench: {error}")
    sys.stdout.write(f"{show(figures(found))}\n")


if __name__ == "__main__":
    main()
