# SPDX-License-Identifier: Apache-2.0
"""Processes, by their pid and start time (a pid alone can come back)."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

from tests.lab.errors import LabError

_STATE, _START_TIME = 0, 19  # proc_pid_stat(5), counted from the field after the command name


def start_time(pid: int) -> int | None:
    """Answer the clock ticks from boot to the start of a process, None when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in "ZX" else int(fields[_START_TIME])


def command_line(pid: int) -> list[str]:
    """Answer the arguments of a process, none when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def children(pid: int) -> list[int]:
    """Answer the pids of the child processes of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.extend(map(int, task.read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


class Size(NamedTuple):
    """What a process holds: open files, threads, and memory of its own in KiB."""

    files: int
    threads: int
    memory: int


def size(pid: int) -> Size:
    """Answer what a process holds at the moment."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Size(files, int(status["Threads"]), int(status["RssAnon"].split()[0]))


def stop(pid: int, *, patience: float = 60) -> None:
    """SIGSTOP a process, and wait until each of its threads stands still."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + patience
    while any(_state(task) not in "TtZX" for task in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > deadline:
            raise LabError(f"process {pid} does not stand still")
        time.sleep(0.01)


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[_STATE]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def kill(pid: int, started: int, *, patience: float = 60) -> None:
    """SIGKILL the process that has this pid since this start time, and wait `patience` seconds at most."""
    if start_time(pid) != started:
        return
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + patience
    while start_time(pid) == started:
        if time.monotonic() > deadline:
            raise LabError(f"process {pid} does not end")
        time.sleep(0.01)
