# SPDX-License-Identifier: Apache-2.0
"""How long `docker run` takes on dni, on Docker's own networks, and without a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from tests.bench.figures import Figure, median_difference, median_ms
from tests.lab import Host

AT_ONCE = 50

DEFAULT, OWN, SWARM = "default bridge", "own bridge", "swarm"
"""Docker's networks: `bridge`, which alone has no DNS; one that was created, as dni's is; a Swarm overlay.

The engine itself sets up the DNS of a created network, whatever its driver: more than half of what `own bridge` adds.
So a driver is held to what the same engine does with its own bridge driver, and `bridge` is shown beside.
"""

Samples = dict[str, list[float]]
"""Durations in seconds for each network, one of each round."""


class Place(msgspec.Struct, frozen=True):
    """A network of a host to run containers on."""

    host: Host
    network: str

    def run(self) -> float:
        """Time `docker run --rm busybox true`."""
        started = time.perf_counter()
        self.host.docker("run", "--rm", "--net", self.network, "busybox", "true")
        return time.perf_counter() - started

    def run_many(self) -> float:
        """Time AT_ONCE of them started together, until the last has ended."""
        started = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as callers:
            list(callers.map(lambda _: self.run(), range(AT_ONCE)))
        return time.perf_counter() - started


def places(host: Host) -> dict[str, Place]:
    """Answer the networks of one host that are compared."""
    host.docker("network", "create", "own")
    host.docker("network", "create", "-d", "dni", "--ipam-driver", "dni", "dcos")
    named = {"none": "none", DEFAULT: "bridge", OWN: "own", "dni": "dcos"}
    return {name: Place(host, network) for name, network in named.items()}


def swarm_place(host: Host) -> Place:
    """Make a host a swarm of one, with an overlay that containers may join."""
    host.docker("swarm", "init", "--advertise-addr", host.address)
    host.docker("network", "create", "-d", "overlay", "--attachable", "far")
    return Place(host, "far")


def in_turn(places: Mapping[str, Place], time_one: Callable[[Place], float], rounds: int) -> Samples:
    """Time the same thing on each network in turn, again and again."""
    samples = [{name: time_one(place) for name, place in places.items()} for _ in range(rounds)]
    return {name: [sample[name] for sample in samples] for name in places}


def figures_of_one(samples: Samples) -> list[Figure]:
    """Answer the medians, and what dni adds to a container without network as a share of what others add."""
    added = {name: median_difference(times, samples["none"]) for name, times in samples.items() if name != "none"}
    return [
        *(Figure(name=f"docker run, {name}", value=median_ms(times), unit="ms") for name, times in samples.items()),
        *(Figure(name=f"  added by {name}", value=seconds * 1000, unit="ms") for name, seconds in added.items()),
        *(
            Figure(name=f"  added by dni / by {name}", value=added["dni"] / added[name], unit="", bar=bar)
            for name, bar in ((OWN, 0.9), (DEFAULT, None), (SWARM, 0.2))
        ),
    ]


def figures_of_crowd(samples: Samples) -> list[Figure]:
    """Answer the medians, and dni's as a share of the bridges'."""
    medians = {name: median_ms(times) for name, times in samples.items()}
    return [
        *(Figure(name=f"{AT_ONCE} at once, {name}", value=value, unit="ms") for name, value in medians.items()),
        *(
            Figure(name=f"  dni / {name}", value=medians["dni"] / medians[name], unit="", bar=bar)
            for name, bar in ((OWN, 1.0), (DEFAULT, None))
        ),
    ]
