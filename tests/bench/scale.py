# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.scale AGENTS …`: many agents join one ZooKeeper at once, and what that costs it (root).

ZooKeeper and agents are alone in a network namespace, whose loopback counts their bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import msgspec

from tests.bench.crowd import Orders, Outcome, Phase
from tests.lab.zookeeper import ZooKeeper, running
from tests.root.ground import Namespace

RESULT = Path("bench-scale-result.json")
_PLACE = "/dni"
_PROCESSES = 4


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What ZooKeeper did until some moment, or between two: requests, bytes over the wire, CPU seconds.

    `watches` and `nodes` are what there was at the end.
    """

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
            requests=self.requests - before.requests,
            bytes=self.bytes - before.bytes,
            cpu=self.cpu - before.cpu,
        )


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """So many agents that joined at once, in seconds, and some of them that learned of all."""

    agents: int
    followers: int
    last_lease: float
    failures: int
    joining: Load
    following: Load
    one_more: Load
    everybody_known: float
    crowd_cpu: float


class Crowds:
    """Processes full of agents."""

    def __init__(self, stack: ExitStack, url: str, agents: int, followers: int) -> None:
        """Start them; they wait."""
        share = -(-agents // _PROCESSES)
        parts = [(first, min(share, agents - first)) for first in range(0, agents, share)]
        self._processes = [
            stack.enter_context(_process(Orders(url=url, first=first, count=count, of=agents, followers=followers)))
            for first, count in parts
        ]
        self.answers()

    def begin(self) -> None:
        """Have all begin the next phase."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

    def answers(self) -> list[Phase]:
        """Wait until all have ended the phase."""
        return [msgspec.json.decode(self._line(process), type=Phase) for process in self._processes]

    def _line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit("scale: a process of agents has ended")
        return line


@contextmanager
def _process(orders: Orders) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.bench.crowd", msgspec.json.encode(orders).decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def measure(agents: int, followers: int) -> Run:
    """Have so many agents join a registry that is empty."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running(folder / "zookeeper"))
        crowds = Crowds(stack, f"zookeeper://{server.address}{_PLACE}", agents, followers)
        before, began = load(server), time.time()
        crowds.begin()
        phases = crowds.answers()
        joined = load(server)
        outcomes = [outcome for phase in phases for outcome in phase.outcomes]
        check(outcomes, agents)
        followed_from = time.time()
        crowds.begin()
        crowds_ended = crowds.answers()
        known = load(server)
        return Run(
            agents=agents,
            followers=followers,
            last_lease=max(outcome.joined for outcome in outcomes) - began,
            failures=sum(outcome.failures for outcome in outcomes),
            joining=joined.since(before),
            following=known.since(joined),
            one_more=known.since(known),
            everybody_known=max(phase.ended for phase in crowds_ended) - followed_from if followers else 0.0,
            crowd_cpu=sum(phase.cpu for phase in crowds_ended),
        )


def check(outcomes: Sequence[Outcome], agents: int) -> None:
    """End with words unless every agent has what no other has."""
    for what in ("vtep", "subnet"):
        different = {getattr(outcome, what) for outcome in outcomes}
        if len(different) != agents:
            sys.exit(f"scale: {agents} agents have {len(different)} different {what}s")


def load(server: ZooKeeper) -> Load:
    """Answer what ZooKeeper has done so far."""
    said = dict(line.split("\t", 1) for line in server.ask("mntr").splitlines() if "\t" in line)
    return Load(
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
    """Lay the runs out as a table."""
    lines = [
        "agents  last lease  failed    requests  each   bytes each  ZK cpu  | followers     s   requests each  bytes each"
    ]
    for run in runs:
        j, f = run.joining, run.following
        n, m = run.agents, max(1, run.followers)
        lines.append(
            f"{n:6}  {run.last_lease:8.1f} s  {run.failures:6}  {j.requests:10}  {j.requests / n:4.0f}  {j.bytes / n:10.0f}"
            f"  {j.cpu:5.1f} s | {run.followers:6}  {run.everybody_known:6.1f}  {f.requests / m:10.0f}  {f.bytes / m:12.0f}"
            f"  watches {f.watches} nodes {f.nodes} data {f.data} cpu {run.crowd_cpu:.1f}"
        )
    return "\n".join(lines)


@click.command()
@click.argument("agents", type=int, nargs=-1, required=True)
@click.option("--followers", default=20, show_default=True, help="How many of them learn of all others.")
def scale(agents: tuple[int, ...], followers: int) -> None:
    """Have so many agents join one ZooKeeper at once, for each of the numbers."""
    runs = []
    for number in agents:
        with Namespace() as alone:
            runs.append(alone.run(measure, number, min(followers, number)))
        click.echo(show(runs[-1:]), err=True)
    RESULT.write_text(json.dumps(msgspec.to_builtins(runs)))
    click.echo(show(runs))


if __name__ == "__main__":
    scale()
