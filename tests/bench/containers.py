# SPDX-License-Identifier: Apache-2.0
"""How long `docker run` takes on dni, on Docker's built-in bridge, and without a network, in turn."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from tests.bench.figures import Figure, median_difference, median_ms
from tests.lab import Host

NETWORKS: Mapping[str, str] = {"none": "none", "bridge": "bridge", "dni": "dcos"}
"""What is compared, and its network's name for Docker."""

AT_ONCE = 50

Samples = dict[str, list[float]]
"""Durations in seconds for each network, one of each round."""


def one_by_one(host: Host, rounds: int) -> Samples:
    """Time `docker run --rm busybox true` on each network in turn; the first round only warms up."""
    samples = [{name: _timed_run(host, network) for name, network in NETWORKS.items()} for _ in range(rounds + 1)]
    return {name: [sample[name] for sample in samples[1:]] for name in NETWORKS}


def all_at_once(host: Host, rounds: int) -> Samples:
    """Time AT_ONCE of them started together, until the last has ended, on each network in turn."""
    samples = [{name: _timed_crowd(host, network) for name, network in NETWORKS.items()} for _ in range(rounds)]
    return {name: [sample[name] for sample in samples] for name in NETWORKS}


def _timed_run(host: Host, network: str) -> float:
    started = time.perf_counter()
    host.docker("run", "--rm", "--net", network, "busybox", "true")
    return time.perf_counter() - started


def _timed_crowd(host: Host, network: str) -> float:
    started = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as callers:
        list(callers.map(lambda _: _timed_run(host, network), range(AT_ONCE)))
    return time.perf_counter() - started


def figures_of_one(samples: Samples) -> list[Figure]:
    """Answer the medians, and what dni adds to a container without network as a share of what the bridge adds."""
    added = {name: median_difference(samples[name], samples["none"]) for name in ("dni", "bridge")}
    return [
        *(Figure(name=f"docker run, {name}", value=median_ms(samples[name]), unit="ms") for name in NETWORKS),
        *(Figure(name=f"  added by {name}", value=seconds * 1000, unit="ms") for name, seconds in added.items()),
        Figure(name="  added by dni / added by bridge", value=added["dni"] / added["bridge"], unit="", bar=0.9),
    ]


def figures_of_crowd(samples: Samples) -> list[Figure]:
    """Answer the medians, and dni's as a share of the bridge's."""
    medians = {name: median_ms(samples[name]) for name in NETWORKS}
    return [
        *(Figure(name=f"{AT_ONCE} at once, {name}", value=value, unit="ms") for name, value in medians.items()),
        Figure(name="  dni / bridge", value=medians["dni"] / medians["bridge"], unit="", bar=1.0),
    ]
