# SPDX-License-Identifier: Apache-2.0
"""What gets from one place to another: TCP, datagrams, and how long an answer takes."""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tests import iperf
from tests.bench import packets
from tests.lab.errors import LabError
from tests.lab.node import Node

_SECONDS = 2
_DATAGRAMS = ("--udp", "--length", "1400", "--bitrate", "0")
"""As many as there can be, of a payload that fills a packet of an overlay."""
_READY_SECONDS = 10.0
_IPERF_PORT = 5201
_END = (sys.executable, "-m", "tests.bench.packets")
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
    """One measurement of a way: bits a second, seconds of processor for a packet, seconds to an answer."""

    tcp: float
    udp: float
    packet: float
    answer: float


def measure(way: Way) -> Taken:
    """Measure a way once."""
    return Taken(tcp=_received(way), udp=_received(way, *_DATAGRAMS), packet=_packet(way), answer=_answer(way))


def _received(way: Way, *options: str) -> float:
    with _running(way.server, *iperf.SERVER, "--bind", way.server.address, port=_IPERF_PORT):
        argv = ("iperf3", "--client", way.server.address, "--time", str(_SECONDS), "--json", *options)
        report = way.client.node.run(*way.client.inside(*argv))
        if complaint := json.loads(report).get("error"):
            raise LabError(f"iperf3 from {way.client.address} to {way.server.address}: {complaint}")
        return iperf.received(report)


def _packet(way: Way) -> float:
    with _running(way.server, *_END, "receive", way.server.address, port=packets.PORT):
        written = way.client.node.run(*way.client.inside(*_END, "send", way.server.address))
    return packets.steady(json.loads(written))


def _answer(way: Way) -> float:
    written = way.client.node.run(*way.client.inside(*_PING, way.server.address))
    return statistics.median(float(found) for found in re.findall(r"time=([\d.]+) ms", written)) / 1000


@contextmanager
def _running(spot: Spot, *argv: str, port: int) -> Iterator[None]:
    """Have a server run, from when it has its port."""
    server = spot.node.spawn(*spot.inside(*argv))
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while f":{port}" not in spot.node.run(*spot.inside("ss", "-lnut")):
            if server.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{argv[0]} does not serve at {spot.address}")
        yield
    finally:
        server.kill()
        server.wait()
