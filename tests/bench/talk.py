# SPDX-License-Identifier: Apache-2.0
"""What gets from one place to another: TCP, datagrams, and how long an answer takes."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests import iperf
from tests.lab.errors import LabError
from tests.lab.node import Node

_SECONDS = 2
_DATAGRAMS = ("--udp", "--length", "1400", "--bitrate", "0")
"""As many as there can be, of a payload that fills a packet of an overlay."""
_READY_SECONDS = 10.0
_BUSY_OF_A_SECOND = 100
"""What /proc/stat counts."""
_PING = ("ping", "-n", "-c", "300", "-i", "0.002")


class Spot(msgspec.Struct, frozen=True):
    """A network namespace of a node, the node's own where none is named, and its address there."""

    node: Node
    address: str
    namespace: str | None = None

    def inside(self, *argv: str) -> tuple[str, ...]:
        """Answer how to run a command there."""
        return argv if self.namespace is None else ("nsenter", f"--net={self.namespace}", *argv)


class Way(msgspec.Struct, frozen=True):
    """From a client to a server."""

    client: Spot
    server: Spot

    def wait(self) -> None:
        """Wait until the server answers: some networks take their time."""
        deadline = time.monotonic() + 6 * _READY_SECONDS
        while self.client.node.try_run(*self.client.inside("ping", "-c1", "-W1", self.server.address)).returncode:
            if time.monotonic() > deadline:
                raise LabError(f"{self.server.address} is not reached from {self.client.address}")


class Taken(msgspec.Struct, frozen=True):
    """One measurement of a way: bits a second, seconds of processor for a gigabit of TCP, seconds to an answer."""

    tcp: float
    udp: float
    processor: float
    answer: float


def measure(way: Way) -> Taken:
    """Measure a way once."""
    before = _busy_seconds()
    tcp = _received(way)
    processor = (_busy_seconds() - before) / (tcp * _SECONDS / 1e9)
    return Taken(tcp=tcp, udp=_received(way, *_DATAGRAMS), processor=processor, answer=_answer(way))


def _received(way: Way, *options: str) -> float:
    with _serving(way.server):
        argv = ("iperf3", "--client", way.server.address, "--time", str(_SECONDS), "--json", *options)
        report = way.client.node.run(*way.client.inside(*argv))
        if complaint := json.loads(report).get("error"):
            raise LabError(f"iperf3 from {way.client.address} to {way.server.address}: {complaint}")
        return iperf.received(report)


def _answer(way: Way) -> float:
    written = way.client.node.run(*way.client.inside(*_PING, way.server.address))
    return statistics.median(float(found) for found in re.findall(r"time=([\d.]+) ms", written)) / 1000


@contextmanager
def _serving(spot: Spot) -> Iterator[None]:
    serving = spot.node.spawn(*spot.inside(*iperf.SERVER, "--bind", spot.address))
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while ":5201" not in spot.node.run(*spot.inside("ss", "-ltn")):
            if serving.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"iperf3 does not serve at {spot.address}")
        yield
    finally:
        serving.kill()
        serving.wait()


def _busy_seconds() -> float:
    """Answer for how long the processors of this machine have worked, whoever for."""
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / _BUSY_OF_A_SECOND
