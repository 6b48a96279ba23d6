# SPDX-License-Identifier: Apache-2.0
"""Everything of a lab that could be left behind: taken while it is up, looked for when it is gone."""

from __future__ import annotations

import os
from pathlib import Path

from tests.lab import procfs
from tests.lab.lab import Lab


class Traces:
    """The processes and namespaces of a lab, and its run id."""

    def __init__(self, lab: Lab) -> None:
        """Take stock of a lab that is up."""
        self._run = lab.switch.directory.parent.name
        pids = {pid for node in (lab.switch, lab.outside, *lab.hosts, *lab.machines) for pid in family(node.pid)}
        pids |= {host.dockerd_pid for host in lab.hosts}
        self._processes = {pid: procfs.start_time(pid) for pid in pids}
        self._namespaces = {link for pid in pids for link in _namespaces(pid)} - set(_namespaces(os.getpid()))

    def found(self) -> list[str]:
        """Name what is still there."""
        processes = [f"process {pid}" for pid, start in self._processes.items() if procfs.start_time(pid) == start]
        return [*processes, *self._held_namespaces(), *named_for(self._run)]

    def _held_namespaces(self) -> set[str]:
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
        return self._namespaces & {link for pid in pids for link in _namespaces(pid)}


def named_for(run: str) -> list[str]:
    """Answer the mounts, paths and cgroups whose names begin with a run id."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if run in line]
    paths = [str(path) for place in ("/tmp", "/run/netns") for path in Path(place).glob(f"{run}*")]
    cgroups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{run}*")]
    return [*mounts, *paths, *cgroups]


def family(pid: int) -> set[int]:
    """Answer a process and its descendants."""
    return {pid}.union(*map(family, procfs.children(pid)))


def _namespaces(pid: int) -> list[str]:
    try:
        return [str(link.readlink()) for link in Path(f"/proc/{pid}/ns").iterdir()]
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or process 1
        return []
