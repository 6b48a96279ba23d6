# SPDX-License-Identifier: Apache-2.0
"""How long `dni-cni` takes to start, and to give a container its place in the Mesos half and take it away again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.figures import Figure, median_ms
from tests.lab import Host

PROGRAM = Path(sys.executable).parent / "dni-cni"
_CONFIGURATION = json.dumps({"cniVersion": "1.0.0", "name": "dcos", "type": "dni-cni"})
_BAR = 100.0
_NAME = "bench"


def starts(rounds: int) -> list[float]:
    """Ask the program for its versions, which it knows without the agent; the seconds from start to end."""
    return [_time_start() for _ in range(rounds)]


def attachments(host: Host, rounds: int) -> dict[str, list[float]]:
    """Have a container come and go on a host whose Mesos half dni hands out; the seconds of each call."""
    host.run("ip", "netns", "add", _NAME)
    taken: dict[str, list[float]] = {"ADD": [], "DEL": []}
    for _ in range(rounds):
        for command, durations in taken.items():
            durations.append(_time_call(host, command))
    host.run("ip", "netns", "del", _NAME)
    return taken


def figures(started: list[float], taken: dict[str, list[float]]) -> list[Figure]:
    """Answer medians, and the fastest start; ADD and DEL with what it takes to enter a lab host."""
    return [
        Figure(name="dni-cni: start to end, VERSION", value=median_ms(started), unit="ms", bar=_BAR),
        Figure(name="  the fastest", value=min(started) * 1000, unit="ms", bar=_BAR),
        *(
            Figure(name=f"dni-cni: start to end, {command}", value=median_ms(durations), unit="ms", bar=_BAR)
            for command, durations in taken.items()
        ),
    ]


def _time_start() -> float:
    began = time.perf_counter()
    subprocess.run([PROGRAM], env={"CNI_COMMAND": "VERSION"}, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def _time_call(host: Host, command: str) -> float:
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": _NAME,
        "CNI_NETNS": f"/run/netns/{_NAME}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(PROGRAM.parent),
    }
    began = time.perf_counter()
    host.run(str(PROGRAM), stdin=_CONFIGURATION, env=environment)
    return time.perf_counter() - began
