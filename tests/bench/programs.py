# SPDX-License-Identifier: Apache-2.0
"""What `dni up` costs: the memory of all it runs, and the time from its start to its first answer."""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.bench.figures import Figure, median_ms
from tests.lab import Host, procfs

_QUIET_SECONDS = 5.0


def starts(host: Host, rounds: int) -> list[float]:
    """Stop and start `dni up`; the seconds from each start to the first answer."""
    durations = []
    for _ in range(rounds):
        host.stop_dni()
        started = time.perf_counter()
        host.start_dni()
        durations.append(time.perf_counter() - started)
    return durations


def memory(host: Host) -> dict[str, float]:
    """Answer the proportional set size, in MiB, of each process of `dni up` after some idle seconds."""
    time.sleep(_QUIET_SECONDS)
    return {_title(pid): _pss(pid) for pid in _family(host.dni_pid("up"))}


def figures_of_start(durations: list[float]) -> list[Figure]:
    """Answer the median."""
    return [Figure(name="dni up: start to first answer", value=median_ms(durations), unit="ms")]


def figures_of_memory(title: str, sizes: dict[str, float], bar: float | None = None) -> list[Figure]:
    """Answer the sum and each process's part."""
    parts = [Figure(name=f"  {process}", value=size, unit="MiB") for process, size in sizes.items()]
    return [Figure(name=f"memory, {title}", value=sum(sizes.values()), unit="MiB", bar=bar), *parts]


def _family(pid: int) -> list[int]:
    return [pid, *(relative for child in procfs.children(pid) for relative in _family(child))]


def _pss(pid: int) -> float:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def _title(pid: int) -> str:
    """Name a process by its pid and the words of its command after the interpreter's own."""
    words = procfs.command_line(pid)
    own = next((place for place, word in enumerate(words) if word.startswith("dni_driver")), 0)
    return f"{pid} {' '.join(words[own : own + 3])}"
