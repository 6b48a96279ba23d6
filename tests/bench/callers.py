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
from pathlib import Path

from tests.bench.figures import Figure, percentile_ms

OVERLAY, SUBNET, PREFIX = "bench", "10.128.0.0/9", "12"
"""Large enough that nothing need be released: a Docker half of half a million addresses."""

_METHOD = "IpamDriver.RequestAddress"
_BODY = json.dumps({"PoolID": f"{OVERLAY}/v4", "Address": "", "Options": None}).encode() + b"\n"
_REQUEST = (
    f"POST /{_METHOD} HTTP/1.1\r\n"
    "Host: plugin.moby.localhost\r\n"
    "User-Agent: Go-http-client/1.1\r\n"
    f"Content-Length: {len(_BODY)}\r\n"
    "Accept: application/vnd.docker.plugins.v1.2+json\r\n"
    "\r\n"
).encode() + _BODY
_INTERVAL = 0.1
_SECONDS = 10.0


def closed_loop(plugin: Path, callers: int, calls: int) -> list[float]:
    """Have each caller ask again as soon as it is answered; the durations of all calls, in seconds."""
    return _crowd(callers, lambda _: [_timed_call(plugin) for _ in range(calls)])


def paced(plugin: Path, callers: int) -> list[float]:
    """Have each caller ask at a random moment of every 100 ms, for ten seconds; the durations, in seconds."""
    began = time.monotonic()

    def caller(number: int) -> list[float]:
        chance = random.Random(number)  # noqa: S311 - any spread will do
        return [_call_at(plugin, began + (turn + chance.random()) * _INTERVAL) for turn in range(turns)]

    turns = round(_SECONDS / _INTERVAL)
    return _crowd(callers, caller)


def commits(directory: Path, number: int = 200) -> list[float]:
    """Time bare SQLite commits as durable as the store's, on the same disk: the floor of all of the above."""
    with sqlite3.connect(directory / "floor.db", isolation_level=None) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE floor (number INTEGER)")
        durations = [_timed(lambda: database.execute("INSERT INTO floor VALUES (1)")) for _ in range(number)]
    database.close()
    return durations


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


def _call_at(plugin: Path, moment: float) -> float:
    time.sleep(max(0.0, moment - time.monotonic()))
    return _timed_call(plugin)


def _timed_call(plugin: Path) -> float:
    return _timed(lambda: _call(plugin))


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _call(plugin: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(plugin))
        connection.sendall(_REQUEST)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"{_METHOD} was answered with {answer.decode(errors='replace')}")
