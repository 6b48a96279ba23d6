# SPDX-License-Identifier: Apache-2.0
"""How long RequestAddress takes over the real socket, each answer durable, by one caller and by many."""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec

from tests.bench.figures import Figure, median_ms, percentile_ms
from tests.bench.stalls import Stalls

OVERLAY, SUBNET, PREFIX = "bench", "10.128.0.0/9", "12"
"""Large enough that nothing need be released: a Docker half of half a million addresses."""

_INTERVAL = 0.1
_SECONDS = 10.0
_COMMITS = 200


class Call(msgspec.Struct, frozen=True):
    """A method over a plugin's socket, with the headers dockerd sends."""

    plugin: str
    method: str
    body: str = ""

    def request(self) -> bytes:
        """Answer what goes over the wire."""
        return (
            f"POST /{self.method} HTTP/1.1\r\n"
            "Host: plugin.moby.localhost\r\n"
            "User-Agent: Go-http-client/1.1\r\n"
            f"Content-Length: {len(self.body)}\r\n"
            "Accept: application/vnd.docker.plugins.v1.2+json\r\n"
            "Accept-Encoding: gzip\r\n"
            "\r\n"
            f"{self.body}"
        ).encode()


Pace = Literal["paced", "flat out"]
"""At a random moment of every 100 ms, for ten seconds; or again as soon as there is an answer."""


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """A call: when it `began`, on the monotonic clock, and how many `seconds` it took."""

    began: float
    seconds: float


class Crowd(msgspec.Struct, frozen=True):
    """So many callers of one method, each of which makes so many calls."""

    call: Call
    pace: Pace
    callers: int
    calls: int

    def measure(self) -> list[Taken]:
        """Have a process of its own make the calls; answer all of them."""
        command = [sys.executable, "-m", "tests.bench.callers", msgspec.json.encode(self).decode()]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        return msgspec.json.decode(done.stdout, type=list[Taken])


def request_address(plugin: Path) -> Call:
    """Ask for any address of the overlay."""
    return Call(str(plugin), "IpamDriver.RequestAddress", json.dumps({"PoolID": f"{OVERLAY}/v4"}) + "\n")


def nothing(plugin: Path) -> Call:
    """Ask for what is the same always: HTTP, and nothing else."""
    return Call(str(plugin), "IpamDriver.GetCapabilities")


def closed_loop(call: Call, callers: int, calls: int) -> list[Taken]:
    """Have each caller ask again as soon as it is answered."""
    return Crowd(call, "flat out", callers, calls).measure()


def paced(call: Call, callers: int) -> list[Taken]:
    """Have each caller ask at a random moment of every 100 ms, for ten seconds."""
    return Crowd(call, "paced", callers, round(_SECONDS / _INTERVAL)).measure()


class Callers:
    """A crowd in one thread, so that the callers take nothing from each other, and little from the plugin."""

    def __init__(self, crowd: Crowd) -> None:
        """Have every caller's first call before it."""
        self._crowd = crowd
        self._request = crowd.call.request()
        self._began = time.monotonic()
        self._eye = select.epoll()
        self._due: list[tuple[float, int, int]] = []
        self._open: dict[int, tuple[socket.socket, float, int, int]] = {}
        self._taken: list[Taken] = []
        for caller in range(crowd.callers):
            self._plan(caller, 0)

    def work(self) -> list[Taken]:
        """Make all the calls; each lasts from its connection to the last byte of its answer."""
        while self._due or self._open:
            pause = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            for file, _ in self._eye.poll(pause):
                self._hear(file)
            while self._due and self._due[0][0] <= time.monotonic():
                self._speak(*heapq.heappop(self._due)[1:])
        return self._taken

    def _plan(self, caller: int, turn: int) -> None:
        if turn < self._crowd.calls:
            chance = random.Random(caller << 20 | turn).random()  # noqa: S311 - any spread will do
            moment = self._began + (turn + chance) * _INTERVAL if self._crowd.pace == "paced" else 0.0
            heapq.heappush(self._due, (moment, caller, turn))

    def _speak(self, caller: int, turn: int) -> None:
        began = time.monotonic()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._crowd.call.plugin)
        connection.sendall(self._request)
        self._open[connection.fileno()] = connection, began, caller, turn
        self._eye.register(connection, select.EPOLLIN)

    def _hear(self, file: int) -> None:
        """Take an answer, which comes in one piece; raise RuntimeError unless it is a success."""
        connection, began, caller, turn = self._open[file]
        answer = connection.recv(1 << 16)
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 ") or f"Content-Length: {len(body)}".encode() not in head:
            raise RuntimeError(f"{self._crowd.call.method} was answered with {answer.decode(errors='replace')}")
        self._taken.append(Taken(began, time.monotonic() - began))
        del self._open[file]
        connection.close()
        self._plan(caller, turn + 1)


def commits(directory: Path, callers: int) -> list[float]:
    """Time bare SQLite commits, as durable as the store's and on the same disk, as often as so many paced callers."""
    with closing(sqlite3.connect(directory / "floor.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE floor (number INTEGER)")
        return [_timed_commit(database, _INTERVAL / callers) for _ in range(_COMMITS)]


def _timed_commit(database: sqlite3.Connection, pause: float) -> float:
    return _timed_at(time.monotonic() + pause, lambda: database.execute("INSERT INTO floor VALUES (1)"))


def figures(title: str, durations: Sequence[float], *, held_to_bars: bool) -> list[Figure]:
    """Answer the median and the 99th percentile of some calls."""
    p50, p99 = percentile_ms(durations, 50), percentile_ms(durations, 99)
    return [
        Figure(name=f"{title}, p50", value=p50, unit="ms", bar=1.0 if held_to_bars else None),
        Figure(name=f"{title}, p99", value=p99, unit="ms", bar=5.0 if held_to_bars else None),
    ]


def against_floor(title: str, calls: Sequence[float], empty: Sequence[float], bare: Sequence[float]) -> Figure:
    """Answer the median of calls as a share of what an empty call and a bare commit take on this machine."""
    floor = median_ms(empty) + median_ms(bare)
    return Figure(name=f"{title}, p50 / the two floors", value=median_ms(calls) / floor, unit="")


def undisturbed(taken: Sequence[Taken], stalls: Stalls) -> list[float]:
    """Answer the durations of those calls during which the machine kept pace."""
    return [one.seconds for one in taken if not stalls.touch(one.began, one.seconds)]


def _timed_at(moment: float, work: Callable[[], object]) -> float:
    time.sleep(max(0.0, moment - time.monotonic()))
    return _timed(work)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(words: Sequence[str]) -> None:
    """Be the process of a crowd: print the durations of its calls."""
    sys.stdout.buffer.write(msgspec.json.encode(Callers(msgspec.json.decode(words[0], type=Crowd)).work()))


if __name__ == "__main__":
    main(sys.argv[1:])
