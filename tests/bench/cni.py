# SPDX-License-Identifier: Apache-2.0
"""How long `dni-cni` takes to start, and to give a container its place in the Mesos half and take it away again."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import time
import venv
from collections.abc import Callable
from pathlib import Path

import msgspec

import dni_driver
from tests.bench.figures import Figure, median_ms
from tests.e2e.host_state import eventually, overlays
from tests.lab import Host

_CONFIGURATION = json.dumps({"cniVersion": "1.0.0", "name": "dcos", "type": "dni-cni"})
_BAR = 100.0
_JOIN_SECONDS = 20
_NAME = "bench"


def install(directory: Path) -> Path:
    """Put the program, of which only dni's own package is needed, where `make install` would; answer its path."""
    venv.create(directory, symlinks=True)
    (packages,) = directory.glob("lib/python*/site-packages")
    shutil.copytree(Path(dni_driver.__file__).parent, packages / "dni_driver")
    program = directory / "bin" / "dni-cni"
    program.write_text(f"#!{directory}/bin/python -P\nfrom dni_driver.mesos.cni_plugin import main\n\nmain()\n")
    program.chmod(0o755)
    return program


class Call(msgspec.Struct, frozen=True):
    """One call: seconds from start to end, and those of a processor, which do not grow where others are busy."""

    seconds: float
    processor: float


def starts(program: Path, rounds: int) -> list[Call]:
    """Ask the program for its versions, which it knows without the agent."""
    return [_timed(lambda: _ask_versions(program)) for _ in range(rounds)]


def attachments(host: Host, program: Path, rounds: int) -> dict[str, list[Call]]:
    """Have a container come and go on a host whose Mesos half dni hands out; entering the host is counted too."""
    eventually(lambda: overlays(host) or None, _JOIN_SECONDS, "the agent does not join")
    host.run("ip", "netns", "add", _NAME)
    taken: dict[str, list[Call]] = {"ADD": [], "DEL": []}
    for _ in range(rounds):
        for command, calls in taken.items():
            calls.append(_timed(lambda: _call(host, program, command)))  # noqa: B023
    host.run("ip", "netns", "del", _NAME)
    return taken


def figures(taken: dict[str, list[Call]]) -> list[Figure]:
    """Answer of each command the median, the fastest, and the median of processor time."""
    return [figure for command, calls in taken.items() for figure in _figures(command, calls)]


def _figures(command: str, calls: list[Call]) -> list[Figure]:
    seconds = [call.seconds for call in calls]
    return [
        Figure(name=f"dni-cni {command}: start to end", value=median_ms(seconds), unit="ms", bar=_BAR),
        Figure(name="  the fastest", value=min(seconds) * 1000, unit="ms", bar=_BAR),
        Figure(name="  processor time", value=median_ms([call.processor for call in calls]), unit="ms"),
    ]


def _timed(call: Callable[[], object]) -> Call:
    began, spent = time.perf_counter(), _processor()
    call()
    return Call(time.perf_counter() - began, _processor() - spent)


def _processor() -> float:
    """Answer the processor seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _ask_versions(program: Path) -> None:
    subprocess.run([program], env={"CNI_COMMAND": "VERSION"}, stdout=subprocess.DEVNULL, check=True)


def _call(host: Host, program: Path, command: str) -> None:
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": _NAME,
        "CNI_NETNS": f"/run/netns/{_NAME}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(program.parent),
    }
    host.run(str(program), stdin=_CONFIGURATION, env=environment)
