# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.scale AGENTS …`: many agents join one ZooKeeper at once, and what that costs it (root).

More agents than one machine can play at once join in waves. ZooKeeper and agents are alone in a network namespace,
whose loopback counts their bytes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import msgspec
from kazoo.client import KazooClient

from dni_driver.registry import open_registry
from dni_driver.registry.zookeeper.digest import WORTHWHILE
from tests.bench.crowd import FIRST, Orders, Outcome, Phase, join
from tests.bench.survey import Survey, survey
from tests.lab.zookeeper import ZooKeeper, running
from tests.root.ground import Namespace

RESULT = Path("bench-result-scale.json")
_PLACE = "/dni"
_PROCESSES = 4
_QUIET_SECONDS = 20.0
_DIGEST_SECONDS = 60.0


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What ZooKeeper did: requests, bytes in both directions, CPU seconds; and what there was at the end."""

    seconds: float
    requests: int
    bytes: int
    cpu: float
    watches: int
    nodes: int
    data: int

    def since(self, before: Load) -> Load:
        """Answer what was added."""
        return msgspec.structs.replace(
            self,
            seconds=self.seconds - before.seconds,
            requests=self.requests - before.requests,
            bytes=self.bytes - before.bytes,
            cpu=self.cpu - before.cpu,
        )


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """So many agents that joined, `at_once` at a time. `followers` learned of all others, and then of one more.

    Times in seconds: until half of them, and until the last, had a lease, until all followers knew all, and until all
    knew of one more; `longest` is what one of them took for it.
    """

    agents: int
    at_once: int
    followers: int
    half_leased: float
    last_lease: float
    longest: float
    failures: int
    joining: Load
    first_knows: float
    first: Load
    all_know: float
    following: Load
    more_known: float
    one_more: Load
    quiet: Load
    lies: Survey
    crowd_cpu: float


class Crowds:
    """Processes full of agents; the first of them has one agent that is there before the others."""

    def __init__(self, stack: ExitStack, url: str, agents: int, sessions: int, followers: int) -> None:
        """Start them; they wait."""
        share = -(-(agents - 1) // _PROCESSES)
        parts = [(0, 1), *((first, min(share, agents - first)) for first in range(1, agents, share))]
        each = -(-followers // (len(parts) - 1))
        every = [
            Orders(
                url=url,
                first=first,
                count=count,
                sessions=max(1, count * sessions // agents),
                followers=min(count, each),
            )
            for first, count in parts
        ]
        self._processes = [stack.enter_context(_process(orders)) for orders in every]
        self.cpu = 0.0
        self.followers = sum(orders.followers for orders in every[1:])

    def tell(self, word: str, number: int, *, only_the_first: bool = False) -> list[Phase]:
        """Have all do something, and wait until all have."""
        told = self._processes[:1] if only_the_first else self._processes
        for process in told:
            _stdin(process).write(f"{word} {number}\n")
            _stdin(process).flush()
        phases = [_answer(process) for process in told]
        self.cpu = max(self.cpu, sum(phase.cpu for phase in phases))
        return phases


def _stdin(process: subprocess.Popen[str]) -> subprocess.IO[str]:  # type: ignore[name-defined]
    assert process.stdin is not None
    return process.stdin


def _answer(process: subprocess.Popen[str]) -> Phase:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit("scale: a process of agents has ended")
    return msgspec.json.decode(line, type=Phase)


@contextmanager
def _process(orders: Orders) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.bench.crowd", msgspec.json.encode(orders).decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def measure(agents: int, at_once: int, sessions: int, followers: int) -> Run:
    """Have so many agents join a registry that is empty, in waves, then some follow, then one more join."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running(folder / "zookeeper"))
        url = f"zookeeper://{server.address}{_PLACE}"
        crowds = Crowds(stack, url, agents, sessions, followers)
        marks = [load(server)]
        began = time.time()
        outcomes = [
            outcome for phase in crowds.tell("join", max(1, at_once // _PROCESSES)) for outcome in phase.outcomes
        ]
        check(outcomes, agents)
        marks.append(load(server))
        first = _ended(crowds.tell("follow", agents, only_the_first=True))
        marks.append(load(server))
        if agents >= WORTHWHILE:
            _await_digest(server)
        marks.append(load(server))
        everybody = _ended(crowds.tell("follow", agents))
        marks.append(load(server))
        time.sleep(_QUIET_SECONDS)
        marks.append(load(server))
        registry = open_registry(url, Path())
        stack.callback(registry.close)
        join(registry, FIRST + agents)
        more_from = time.time()
        more = _ended(crowds.tell("know", agents + 1))
        marks.append(load(server))
        start, joined, one_knows, digested, known, quiet, told = marks
        return Run(
            agents=agents,
            at_once=at_once,
            followers=crowds.followers,
            half_leased=statistics.median(outcome.joined for outcome in outcomes) - began,
            last_lease=max(outcome.joined for outcome in outcomes) - began,
            longest=max(outcome.seconds for outcome in outcomes),
            failures=sum(outcome.failures for outcome in outcomes),
            joining=joined.since(start),
            first_knows=first - joined.seconds,
            first=one_knows.since(joined),
            all_know=everybody - digested.seconds,
            following=known.since(digested),
            quiet=quiet.since(known),
            more_known=more - more_from,
            one_more=told.since(quiet),
            lies=survey(server.address, _PLACE),
            crowd_cpu=crowds.cpu,
        )


def _ended(phases: Sequence[Phase]) -> float:
    return max(phase.ended for phase in phases)


def _await_digest(server: ZooKeeper) -> None:
    """Wait until the first follower has written all records into the digest, where there are enough of them."""
    client = KazooClient(server.address)
    client.start()
    ends = time.monotonic() + _DIGEST_SECONDS
    while time.monotonic() < ends and not client.exists(f"{_PLACE}/digests/63"):
        time.sleep(0.5)
    client.stop()
    client.close()


def check(outcomes: Sequence[Outcome], agents: int) -> None:
    """End with words unless every agent has what no other has, and the lowest that there were."""
    for what in ("vtep", "subnet"):
        different = {getattr(outcome, what) for outcome in outcomes}
        if len(different) != agents:
            sys.exit(f"scale: {agents} agents have {len(different)} different {what}s")


def load(server: ZooKeeper) -> Load:
    """Answer what ZooKeeper has done so far."""
    said = dict(line.split("\t", 1) for line in server.ask("mntr").splitlines() if "\t" in line)
    return Load(
        seconds=time.time(),
        requests=int(said["zk_packets_received"]),
        bytes=_loopback_bytes(),
        cpu=_cpu_seconds(server.pid),
        watches=int(said["zk_watch_count"]),
        nodes=int(said["zk_znode_count"]),
        data=int(said["zk_approximate_data_size"]),
    )


def _loopback_bytes() -> int:
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.strip().startswith("lo:"))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(runs: Sequence[Run]) -> str:
    """Lay the runs out as a table, a column for each."""
    rows: list[tuple[str, list[str]]] = [
        ("agents that join", [f"{run.agents}" for run in runs]),
        ("  at once", [f"{run.at_once}" for run in runs]),
        ("seconds until half have their leases", [f"{run.half_leased:.1f}" for run in runs]),
        ("seconds until the last lease", [f"{run.last_lease:.1f}" for run in runs]),
        ("  the longest that one of them took", [f"{run.longest:.1f}" for run in runs]),
        ("attempts that failed and were repeated", [f"{run.failures}" for run in runs]),
        ("requests for each agent that joins", [f"{run.joining.requests / run.agents:.0f}" for run in runs]),
        ("bytes for each, both ways", [f"{run.joining.bytes / run.agents:.0f}" for run in runs]),
        ("ZooKeeper's CPU ms for each", [f"{1000 * run.joining.cpu / run.agents:.1f}" for run in runs]),
        ("CPU ms of the agents for each", [f"{1000 * run.crowd_cpu / run.agents:.0f}" for run in runs]),
        ("bytes of the largest node", [f"{run.lies.bytes}" for run in runs]),
        ("children of the widest", [f"{run.lies.children}" for run in runs]),
        ("nodes for each", [f"{run.quiet.nodes / run.agents:.1f}" for run in runs]),
        ("bytes kept for each", [f"{run.quiet.data / run.agents:.0f}" for run in runs]),
        ("learn of all without a digest: requests", [f"{run.first.requests}" for run in runs]),
        ("  bytes", [f"{run.first.bytes}" for run in runs]),
        ("  seconds", [f"{run.first_knows:.1f}" for run in runs]),
        ("learn of all by the digest, so many at once", [f"{run.followers}" for run in runs]),
        ("  requests for each", [f"{run.following.requests / run.followers:.0f}" for run in runs]),
        ("  bytes for each", [f"{run.following.bytes / run.followers:.0f}" for run in runs]),
        ("  seconds until the last knows all", [f"{run.all_know:.1f}" for run in runs]),
        ("one more agent: requests for each follower", [f"{_for_each(run):.1f}" for run in runs]),
        ("  bytes for each", [f"{run.one_more.bytes / (run.followers + 1):.0f}" for run in runs]),
        ("  seconds until the last knows of it", [f"{run.more_known:.2f}" for run in runs]),
        ("quiet: requests a second of each agent", [f"{_quiet(run):.2f}" for run in runs]),
        ("  watches for each follower", [f"{run.quiet.watches / (run.followers + 1):.2f}" for run in runs]),
    ]
    widths = [max(len(name) for name, _ in rows), 12]
    return "\n".join(
        f"{name:<{widths[0]}}{''.join(f'{cell:>{widths[1]}}' for cell in cells)}" for name, cells in rows
    )


def _quiet(run: Run) -> float:
    return run.quiet.requests / run.quiet.seconds / run.agents


def _for_each(run: Run) -> float:
    """Answer what one more agent costs each follower, less what is asked anyway meanwhile."""
    anyway = _quiet(run) * run.agents * run.one_more.seconds
    return (run.one_more.requests - anyway) / (run.followers + 1)


@click.command()
@click.argument("agents", type=int, nargs=-1, required=True)
@click.option("--followers", default=20, show_default=True, help="How many of them learn of all others.")
@click.option(
    "--sessions", type=int, help="Sessions that they share, no fewer than followers. Default: one for each."
)
@click.option("--at-once", type=int, help="How many of them join at a time. Default: all.")
def scale(agents: tuple[int, ...], followers: int, sessions: int | None, at_once: int | None) -> None:
    """Have so many agents join one ZooKeeper, for each of the numbers."""
    runs = []
    for number in agents:
        click.echo(f"… {number} agents", err=True)
        with Namespace() as alone:
            shared, wave = min(number, sessions or number), min(number, at_once or number)
            runs.append(alone.run(measure, number, wave, shared, min(followers, number - 1)))
        RESULT.write_text(json.dumps(msgspec.to_builtins(runs)))
    click.echo(f"\n{show(runs)}\n\nAll in {RESULT}.")


if __name__ == "__main__":
    scale()
