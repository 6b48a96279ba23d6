# SPDX-License-Identifier: Apache-2.0
"""How long RequestAddress takes over the real socket, each answer durable, by one caller and by many."""

from __future__ import annotations

import json
import random
import socket
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec

from tests.bench.figures import Figure, percentile_ms

OVERLAY, SUBNET, PREFIX = "bench", "10.128.0.0/9", "12"
"""Large enough that nothing need be released: a Docker half of half a million addresses."""

_INTERVAL = 0.1
_SECONDS = 10.0
_COMMITS = 200


class Call(msgspec.Struct, frozen=True):
    """A method over a plugin's socket, with the headers dockerd sends."""

    plugin: Path
    method: str
    body: bytes = b""

    def make(self) -> None:
        """Send it and wait for the answer; raise RuntimeError unless it is 200."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.plugin))
            connection.sendall(self._request())
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{self.method} was answered with {answer.decode(errors='replace')}")

    def _request(self) -> bytes:
        head = (
            f"POST /{self.method} HTTP/1.1\r\n"
            "Host: plugin.moby.localhost\r\n"
            "User-Agent: Go-http-client/1.1\r\n"
            f"Content-Length: {len(self.body)}\r\n"
            "Accept: application/vnd.docker.plugins.v1.2+json\r\n"
            "\r\n"
        )
        return head.encode() + self.body


def request_address(plugin: Path) -> Call:
    """Ask for any address of the overlay."""
    return Call(plugin, "IpamDriver.RequestAddress", json.dumps({"PoolID": f"{OVERLAY}/v4"}).encode() + b"\n")


def activate(plugin: Path) -> Call:
    """Ask for what needs no record: HTTP, and nothing else."""
    return Call(plugin, "Plugin.Activate")


def closed_loop(call: Call, callers: int, calls: int) -> list[float]:
    """Have each caller ask again as soon as it is answered; the durations of all calls, in seconds."""
    return _crowd(callers, lambda _: [_timed(call.make) for _ in range(calls)])


def paced(call: Call, callers: int) -> list[float]:
    """Have each caller ask at a random moment of every 100 ms, for ten seconds; the durations, in seconds."""
    began = time.monotonic()

    def caller(number: int) -> list[float]:
        chance = random.Random(number)  # noqa: S311 - any spread will do
        return [_timed_at(began + (turn + chance.random()) * _INTERVAL, call.make) for turn in range(turns)]

    turns = round(_SECONDS / _INTERVAL)
    return _crowd(callers, caller)


def commits(directory: Path, callers: int) -> list[float]:
    """Time bare SQLite commits, as durable as the store's and on the same disk, as often as so many paced callers."""
    with closing(sqlite3.connect(directory / "floor.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE floor (number INTEGER)")
        return [_timed_commit(database, _INTERVAL / callers) for _ in range(_COMMITS)]


def _timed_commit(database: sqlite3.Connection, pause: float) -> float:
    return _timed_at(time.monotonic() + pause, lambda: database.execute("INSERT INTO floor VALUES (1)"))


def figures(title: str, durations: list[float], *, held_to_bars: bool) -> list[Figure]:
    """Answer the median and the 99th percentile of some calls."""
    p50, p99 = percentile_ms(durations, 50), percentile_ms(durations, 99)
    return [
        Figure(name=f"{title}, p50", value=p50, unit="ms", bar=1.0 if held_to_bars else None),
        Figure(name=f"{title}, p99", value=p99, unit="ms", bar=5.0 if held_to_bars else None),
    ]


def _crowd(callers: int, work: Callable[[int], list[float]]) -> list[float]:
    with ThreadPoolExecutor(callers) as crowd:
        return [duration for durations in crowd.map(work, range(callers)) for duration in durations]


def _timed_at(moment: float, work: Callable[[], object]) -> float:
    time.sleep(max(0.0, moment - time.monotonic()))
    return _timed(work)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
