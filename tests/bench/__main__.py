# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench`: measures everything, prints a table, writes bench-result.json.

A section that fails takes nothing along of what the others measured.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import structlog

from tests.bench import across, agent, callers, cni, containers, joining, known, peers, programs, stalls
from tests.bench.figures import Figure, show
from tests.bench.machine import describe
from tests.lab import Lab, LabError
from tests.lab.dni import PLUGIN_SOCKET

RESULT = Path("bench-result.json")
SECTIONS = ("programs", "containers", "addresses", "cni", "known", "paths", "agent", "joining")
MANY = 16
ROUNDS_OF_CROWDS = 7
STARTS = 5
CALLS_OF_CNI = 40
CALLS = 1600
ROUNDS_OF_PEERS = 3
PEERS_MORE = 20
ROUNDS_OF_TCP = 5
ROUNDS_OF_JOINING = 5
MOST_MEMORY = 120.0
"""In MiB, of everything that `dni up` runs."""

_CREATE = ("network", "create", "-d", "dni", "--ipam-driver", "dni")


class Bench:
    """The figures of one run, and the samples behind them."""

    def __init__(self, lab: Lab, engine: str, only: Sequence[str] = ()) -> None:
        """Begin with nothing measured. dni runs on the first host; the other is there for a swarm."""
        self.lab = lab
        self._engine = engine
        self._only = only
        self.failed: list[str] = []
        self.host, self.other = lab.hosts
        self.figures: list[Figure] = []
        self.samples: dict[str, Any] = {}

    def keep(self, name: str, samples: object, figures: list[Figure]) -> None:
        """Keep some samples and their figures."""
        self.samples[name] = samples
        self.figures += figures

    def measure(self, rounds: int) -> None:
        """Measure what one lab shows, a section at a time."""
        self.host.start_dni()
        self.attempt("programs", self._programs)
        self.attempt("containers", lambda: self._containers(rounds))
        self.attempt("addresses", self._addresses)
        self.attempt("cni", self.measure_cni)
        self.attempt("known", self._known)
        self.attempt("paths", self.measure_paths)

    def attempt(self, section: str, measure: Callable[[], None]) -> None:
        """Measure a section where it is wanted; remember what kept it from being measured."""
        if self._only and section not in self._only:
            return
        try:
            measure()
        except LabError as error:
            self.failed.append(f"{section}: {error}")

    def measure_cni(self) -> None:
        """Measure what a container of CNI waits for, on the other host."""
        _say(f"dni-cni: {CALLS_OF_CNI} times VERSION, then ADD and DEL in turn")
        program = cni.install(self.other.directory / "installed")
        taken = {"VERSION": cni.starts(program, CALLS_OF_CNI)}
        self.other.start_dni(cni_ipam="dni")
        taken |= cni.attachments(self.other, program, CALLS_OF_CNI)
        self.other.stop_dni()
        self.keep("dni-cni", msgspec.to_builtins(taken), cni.figures(taken))

    def measure_paths(self) -> None:
        """Measure what leads to other hosts, in namespaces beside the lab."""
        _say(f"{peers.MANY} peers: {ROUNDS_OF_PEERS} times from nothing, by dni and by hand in turn, then one more")
        known = peers.from_nothing(ROUNDS_OF_PEERS)
        self.keep("peers from nothing", known, peers.figures_of_all(known))
        more = peers.one_more(PEERS_MORE)
        self.keep("one more peer", more, peers.figures_of_one(more))
        _say(f"across hosts: TCP {ROUNDS_OF_TCP} times each way, and single packets, in turn")
        taken = across.in_turn(ROUNDS_OF_TCP)
        self.keep("across hosts", msgspec.to_builtins(taken), across.figures(taken))

    def measure_agent(self) -> None:
        """Measure what it costs an agent to be one of many, in a namespace of its own."""
        _say(f"one agent among {agent.MANY} in the registry")
        found = agent.measure()
        self.keep("one agent among many", msgspec.to_builtins(found), agent.figures(found))

    def measure_joining(self) -> None:
        """Measure how a cluster grows, in a lab of its own."""
        _say(f"a new host and a new overlay in a cluster of three: {ROUNDS_OF_JOINING} times")
        taken = joining.in_turn(ROUNDS_OF_JOINING, self._engine)
        self.keep("joining", taken, joining.figures(taken))

    def _programs(self) -> None:
        _say("dni up: starts and memory")
        starts = programs.starts(self.host, STARTS)
        self.keep("start", starts, programs.figures_of_start(starts))
        sizes = programs.memory(self.host)
        self.keep("memory, idle", sizes, programs.figures_of_memory("idle, no peers", sizes))

    def _containers(self, rounds: int) -> None:
        places = containers.places(self.host)
        with_swarm = {**places, containers.SWARM: containers.swarm_place(self.other)}
        _say(f"docker run --rm busybox true: {rounds} on each network, in turn")
        containers.in_turn(with_swarm, containers.Place.run, 1)
        single = containers.in_turn(with_swarm, containers.Place.run, rounds)
        self.keep("docker run", single, containers.figures_of_one(single))
        _say(f"{containers.AT_ONCE} at once: {ROUNDS_OF_CROWDS} times on each network, in turn")
        crowd = containers.in_turn(places, containers.Place.run_many, ROUNDS_OF_CROWDS)
        self.keep("at once", crowd, containers.figures_of_crowd(crowd))

    def _addresses(self) -> None:
        self.host.docker(*_CREATE, *_BENCH_OVERLAY, callers.OVERLAY)
        plugin = self.host.path(PLUGIN_SOCKET)
        address, nothing = callers.request_address(plugin), callers.nothing(plugin)
        for number in (1, MANY):
            _say(f"RequestAddress: {number} at a time, paced, then as fast as they can")
            title, held = f"RequestAddress, {number} at a time", number == MANY
            answered = self._paced(f"{title}, paced", address, number, held_to_bars=held)
            flat_out = callers.closed_loop(address, number, CALLS // number)
            self._latency(f"{title}, flat out", [one.seconds for one in flat_out])
        empty = self._paced("  floor: an empty call, paced", nothing, MANY)
        bare = callers.commits(self.host.directory, MANY)
        self._latency("  floor: one SQLite commit, paced", bare)
        self.figures.append(callers.against_floor(f"RequestAddress, {MANY} at a time, paced", answered, empty, bare))
        sizes = programs.memory(self.host)
        self.keep("memory, after", sizes, programs.figures_of_memory("after all this", sizes))

    def _known(self) -> None:
        """Measure on the other host, where nobody has asked for thousands of addresses."""
        _say(f"dni up beside {known.MANY} agents: memory")
        self.other.start_dni(registry_url=known.registry_in(self.lab))
        known.wait_until_known(self.other)
        sizes = programs.memory(self.other)
        self.other.stop_dni()
        title = f"idle, {known.MANY} peers known"
        self.keep(f"memory, {title}", sizes, programs.figures_of_memory(title, sizes, bar=MOST_MEMORY))

    def _paced(self, title: str, call: callers.Call, number: int, *, held_to_bars: bool = False) -> list[float]:
        """Measure paced calls: all of them, and those that the machine itself left alone; answer all of them."""
        with stalls.watched() as found:
            taken = callers.paced(call, number)
        self._latency(title, [one.seconds for one in taken], held_to_bars=held_to_bars)
        alone = callers.undisturbed(taken, found)
        share = 100 * len(alone) // len(taken)
        self._latency(f"{title}, the {share} % while the machine keeps pace", alone, held_to_bars=held_to_bars)
        return [one.seconds for one in taken]

    def _latency(self, title: str, durations: Sequence[float], *, held_to_bars: bool = False) -> None:
        self.keep(title.strip(), durations, callers.figures(title, durations, held_to_bars=held_to_bars))


_BENCH_OVERLAY = (
    *("--subnet", callers.SUBNET),
    *("--ipam-opt", f"overlay={callers.OVERLAY}"),
    *("--ipam-opt", f"prefix={callers.PREFIX}"),
)


@click.command()
@click.option("--rounds", default=30, show_default=True, help="Single containers on each network.")
@click.option("--engine", default="20.10", show_default=True, help="Docker Engine, of those that the lab has.")
@click.option("--only", multiple=True, type=click.Choice(SECTIONS), help="A section; again for more. Default: all.")
def bench(rounds: int, engine: str, only: tuple[str, ...]) -> None:
    """Measure dni beside Docker's own networks, in a lab of its own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        with Lab(hosts=2, engine=engine) as lab:
            run = Bench(lab, engine, only)
            run.measure(rounds)
            where = describe(run.host)
        run.attempt("agent", run.measure_agent)
        run.attempt("joining", run.measure_joining)
    except LabError as error:
        sys.exit(f"bench: {error}")
    _tell(run, where)


def _tell(run: Bench, where: Mapping[str, object]) -> None:
    """Print the table and write the file, also of what is left where a section failed: then exit with status 1."""
    RESULT.write_text(json.dumps({**where, "figures": msgspec.to_builtins(run.figures), "samples": run.samples}))
    click.echo(
        f"\n{where['engine']}, {where['kernel']}, {where['cpus']} CPUs\n\n{show(run.figures)}\n\nAll in {RESULT}."
    )
    if run.failed:
        sys.exit("\n".join(f"bench: not measured: {one}" for one in run.failed))


def _say(text: str) -> None:
    click.echo(f"… {text}", err=True)


if __name__ == "__main__":
    bench()
