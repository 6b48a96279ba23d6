# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.cluster`: what gets from container to container, by dni and by what there is beside it.

Two pairs of lab hosts on one link, all with a Docker Engine: on one pair runs dni. A Swarm overlay, VXLAN made by
hand and the bare hosts are measured on the other, so that nothing of dni's is in their way; first where only the
processor is the limit, then on slower links. How long a container takes until it reaches the other host is measured
on a third pair, which has both.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
import msgspec

from tests.bench import far, hand_made
from tests.bench.figures import Figure, median_ratio, show
from tests.bench.links import LINKS, slow_down
from tests.bench.machine import describe
from tests.bench.talk import Spot, Taken, Way, measure
from tests.lab import Host, Lab, LabError
from tests.lab.image import NAME
from tests.lab.zookeeper import ZooKeeper

RESULT = Path("bench-result-cluster.json")
HOSTS, HAND, SWARM, VXLAN, DIRECT = "host to host", "hand-made VXLAN", "Swarm overlay", "dni, vxlan", "dni, direct"
BRIDGE, DNI = "own bridge", "dni"
_PATIENCE = 60.0
_BACKENDS = {"dcos": "vxlan", "dev": "direct"}

Samples = dict[str, list[Taken]]
"""What was taken of each way, once in each round."""


class Compared(msgspec.Struct, frozen=True):
    """What is held against what, and how many times as much TCP the other may carry; None where there is no bar."""

    ours: str
    other: str
    bar: float | None = None


_ACROSS = (
    Compared(VXLAN, HAND, 1 / 0.97),
    Compared(VXLAN, SWARM, 1.0),
    Compared(DIRECT, HOSTS, 1 / 0.97),
)
_HERE = (Compared(DNI, BRIDGE),)


def ways_across(lab: Lab) -> dict[str, Way]:
    """Lay all ways from one host to another."""
    ours, plain = (lab.hosts[0], lab.hosts[1]), (lab.hosts[2], lab.hosts[3])
    _join_cluster(lab, ours)
    return {
        HOSTS: Way(*(Spot(host, host.address) for host in plain)),
        HAND: hand_made.across(plain),
        SWARM: _swarm(plain),
        **{f"dni, {backend}": Way(*(_container(host, name) for host in ours)) for name, backend in _BACKENDS.items()},
    }


def ways_here(lab: Lab) -> tuple[dict[str, Way], dict[str, Way]]:
    """Lay the ways within a host, and those from a host's containers to the world outside."""
    host, plain = lab.hosts[0], lab.hosts[2]
    plain.docker("network", "create", "own")
    places = {BRIDGE: (plain, "own"), DNI: (host, "dcos")}
    clients = {name: _container(where, net, "client") for name, (where, net) in places.items()}
    servers = {name: _container(where, net, "server") for name, (where, net) in places.items()}
    world = Spot(lab.outside, lab.outside.world)
    return (
        {name: Way(client, servers[name]) for name, client in clients.items()},
        {name: Way(client, world) for name, client in clients.items()},
    )


def in_turn(ways: Mapping[str, Way], rounds: int) -> Samples:
    """Measure each way once in each round."""
    for way in ways.values():
        way.wait()
    taken: Samples = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(measure(way))
    return taken


def figures(title: str, taken: Samples, compared: tuple[Compared, ...]) -> Iterator[Figure]:
    """Answer what was measured, each figure's ratios first: medians of the ratios in each round."""
    yield from _of_a_kind(f"TCP {title}", "Gbit/s", taken, lambda one: one.tcp / 1e9)
    for one in compared:
        yield _ratio(f"TCP {title}", taken, one, lambda sample: sample.tcp)
    yield from _of_a_kind(f"UDP {title}", "Gbit/s", taken, lambda one: one.udp / 1e9)
    for one in compared:
        yield _ratio(f"UDP {title}", taken, msgspec.structs.replace(one, bar=None), lambda sample: sample.udp)
    yield from _of_a_kind(f"a packet {title}", "µs of processor", taken, lambda one: one.packet * 1e6)
    yield from _of_a_kind(f"an answer {title}", "µs", taken, lambda one: one.answer * 1e6)


def _of_a_kind(title: str, unit: str, taken: Samples, of: Callable[[Taken], float]) -> Iterator[Figure]:
    for name, samples in taken.items():
        yield Figure(name=f"{title}, {name}, {unit}", value=statistics.median(map(of, samples)), unit="")


def _ratio(title: str, taken: Samples, compared: Compared, of: Callable[[Taken], float]) -> Figure:
    other, ours = ([of(one) for one in taken[name]] for name in (compared.other, compared.ours))
    return Figure(
        name=f"  {title}: {compared.other} / {compared.ours}",
        value=median_ratio(other, ours),
        unit="",
        bar=compared.bar and round(compared.bar, 3),
    )


def _join_cluster(lab: Lab, hosts: tuple[Host, Host]) -> None:
    """Have dni on both hosts, in one cluster, with an overlay for each backend."""
    registry = ZooKeeper(lab.outside.directory / "zookeeper", lab.outside)
    registry.start()
    for host in hosts:
        host.start_dni(registry_url=f"zookeeper://{registry.address}/bench")
    hosts[0].dni("overlay", "create", "dev", "--subnet", "10.64.0.0/16", "--backend", "direct")
    for host in hosts:
        for name in _BACKENDS:
            _eventually(lambda: host.try_docker("network", "inspect", name).returncode == 0, f"no network {name}")  # noqa: B023


def _swarm(hosts: tuple[Host, Host]) -> Way:
    first, second = hosts
    first.docker("swarm", "init", "--advertise-addr", first.address)
    token = first.docker("swarm", "join-token", "-q", "worker")
    second.docker("swarm", "join", "--advertise-addr", second.address, "--token", token, f"{first.address}:2377")
    first.docker("network", "create", "-d", "overlay", "--attachable", "far")
    return Way(*(_container(host, "far") for host in hosts))


def _container(host: Host, network: str, kind: str = "across") -> Spot:
    name = f"{network}-{kind}"
    host.docker("run", "-d", "--name", name, "--net", network, NAME, "sleep", "100000")
    address, sandbox = host.docker(
        "inspect",
        "-f",
        f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}} {{{{.NetworkSettings.SandboxKey}}}}',
        name,
    ).split()
    return Spot(host, address, sandbox)


def _eventually(is_so: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise LabError(complaint)
        time.sleep(0.2)


@click.command()
@click.option("--rounds", default=7, show_default=True, help="Measurements of each way, in turn.")
@click.option("--engine", default="20.10", show_default=True, help="Docker Engine, of those that the lab has.")
def bench(rounds: int, engine: str) -> None:
    """Measure what gets across hosts, within a host and outside."""
    try:
        with Lab(hosts=4, engine=engine) as lab:
            where = describe(lab.hosts[0])
            taken = {title: _taken(title, ways, rounds) for title, ways in _titled(lab)}
        click.echo(f"… docker run until the other host is reached: {far.ROUNDS} on each network, in turn", err=True)
        reached = far.measure(engine)
    except LabError as error:
        sys.exit(f"bench-cluster: {error}")
    found = [
        figure
        for title, samples in taken.items()
        for figure in figures(title, samples, _ACROSS if VXLAN in samples else _HERE)
    ] + far.figures(reached)
    samples = {**msgspec.to_builtins(taken), "until the other host is reached": reached}
    RESULT.write_text(json.dumps({**where, "figures": msgspec.to_builtins(found), "samples": samples}))
    click.echo(f"\n{where['engine']}, {where['kernel']}, {where['cpus']} CPUs\n\n{show(found)}\n\nAll in {RESULT}.")


def _titled(lab: Lab) -> Iterator[tuple[str, dict[str, Way]]]:
    across = ways_across(lab)
    yield "across hosts", across
    here, out = ways_here(lab)
    yield "within a host", here
    yield "to the outside", out
    for link in LINKS:
        slow_down(lambda command: lab.switch.run("sh", "-c", command), link)
        yield f"across hosts on a link of {link}", across


def _taken(title: str, ways: dict[str, Way], rounds: int) -> Samples:
    click.echo(f"… {title}: {rounds} times each way, in turn", err=True)
    return in_turn(ways, rounds)


if __name__ == "__main__":
    bench()
