# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.far`: how long until a container reaches one on the other host, beside a Swarm overlay.

Two hosts of the lab, both with dni and a ZooKeeper, both in one swarm. Each container fetches a page from one that
serves on the other host, again until it has it, and ends.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import msgspec

from tests.bench.figures import Figure, median_difference, median_ms, show
from tests.lab import Host, Lab, LabError
from tests.lab.zookeeper import ZooKeeper

ROUNDS = 10
NONE, DNI, SWARM = "none", "dni", "swarm overlay"

_PORT = 9000
_READY_SECONDS = 60
_BAR = 0.2
_TRIES = 60
_FETCH = (
    "i=0; until timeout 1 wget -q -O /dev/null http://{address}:{port}/ 2> /dev/null; "
    "do i=$((i + 1)); [ $i -lt {tries} ] || exit 1; done"
)
"""With busybox' own limit (`wget -T`) its static build ends with a segmentation fault."""
_SERVE = f"mkdir /www; echo here > /www/index.html; exec httpd -f -p {_PORT} -h /www"


class Way(msgspec.Struct, frozen=True):
    """A network, and the command of a container on it."""

    network: str
    command: tuple[str, ...]

    def run(self, host: Host) -> float:
        """Time a container from `docker run` until it has ended."""
        started = time.perf_counter()
        host.docker("run", "--rm", "--net", self.network, "busybox", *self.command)
        return time.perf_counter() - started


def measure(engine: str, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Time containers on each network in turn; seconds."""
    with Lab(hosts=2, engine=engine) as lab, _zookeeper(lab) as url:
        here, there = lab.hosts
        for host in lab.hosts:
            host.start_dni(registry_url=url)
        for host in lab.hosts:
            _until(lambda: _has_network(host, "dcos") and _peers(host) == 1)  # noqa: B023
        _swarm(here, there)
        targets = {DNI: _served(there, "dcos"), SWARM: _served(there, "far")}
        ways = {NONE: Way("none", ("true",))}
        for name, network in ((DNI, "dcos"), (SWARM, "far")):
            ways[name] = Way(network, ("sh", "-c", _FETCH.format(tries=_TRIES, address=targets[name], port=_PORT)))
        for way in ways.values():
            way.run(here)
        samples = [{name: way.run(here) for name, way in ways.items()} for _ in range(rounds)]
    return {name: [sample[name] for sample in samples] for name in ways}


@contextmanager
def _zookeeper(lab: Lab) -> Iterator[str]:
    server = ZooKeeper(lab.outside.directory / "zookeeper", lab.outside)
    server.start()
    try:
        yield f"zookeeper://{server.address}/dni"
    finally:
        server.stop()


def _swarm(first: Host, second: Host) -> None:
    """Make both one swarm, with an overlay that containers may join."""
    first.docker("swarm", "init", "--advertise-addr", first.address)
    token = first.docker("swarm", "join-token", "-q", "worker").strip()
    second.docker("swarm", "join", "--advertise-addr", second.address, "--token", token, f"{first.address}:2377")
    first.docker("network", "create", "-d", "overlay", "--attachable", "far")


def _served(host: Host, network: str) -> str:
    """Start a container that serves a page; answer its address."""
    name = f"serves-{network}"
    host.docker("run", "-d", "--name", name, "--net", network, "busybox", "sh", "-c", _SERVE)
    told = json.loads(host.docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", name))
    return str(told[network]["IPAddress"])


def _has_network(host: Host, name: str) -> bool:
    return name in host.docker("network", "ls", "--format", "{{.Name}}").split()


def _peers(host: Host) -> int:
    return sum(not agent["here"] for agent in json.loads(host.dni("agent", "ls", "--json")) if agent["subnets"])


def _until(happened: Callable[[], bool]) -> None:
    ends = time.monotonic() + _READY_SECONDS
    while not happened():
        if time.monotonic() > ends:
            raise LabError("the hosts do not find each other")
        time.sleep(0.2)


def figures(samples: dict[str, list[float]]) -> list[Figure]:
    """Answer the medians, and what dni adds to a container without network as a share of what Swarm adds."""
    added = {name: median_difference(times, samples[NONE]) for name, times in samples.items() if name != NONE}
    return [
        *(
            Figure(name=f"docker run that reaches the other host, {name}", value=median_ms(times), unit="ms")
            for name, times in samples.items()
        ),
        *(Figure(name=f"  added by {name}", value=seconds * 1000, unit="ms") for name, seconds in added.items()),
        Figure(name=f"  added by {DNI} / by {SWARM}", value=added[DNI] / added[SWARM], unit="", bar=_BAR),
    ]


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True, help="Containers on each network.")
@click.option("--engine", default="20.10", show_default=True, help="Docker Engine, of those that the lab has.")
def main(rounds: int, engine: str) -> None:
    """Measure how long until a container reaches one on the other host."""
    try:
        taken = measure(engine, rounds)
    except LabError as error:
        sys.exit(f"bench: {error}")
    sys.stdout.write(f"{show(figures(taken))}\n")


if __name__ == "__main__":
    main()
