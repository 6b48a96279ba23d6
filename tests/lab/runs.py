# SPDX-License-Identifier: Apache-2.0
"""What a lab has outside its namespaces: a directory and cgroups. Both are named for its process."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab import procfs
from tests.lab.errors import LabError
from tests.lab.node import kill_recorded_keeper

_PARENT = Path("/tmp")
_PREFIX = "dni-lab-"
_NAME = re.compile(rf"{_PREFIX}(\d+)-(\d+)-\d+")
_counter = itertools.count(1)


def new_directory() -> Path:
    """Make a directory named `dni-lab-PID-STARTTIME-N`: whose it is, is known as soon as it exists."""
    pid = os.getpid()
    directory = _PARENT / f"{_PREFIX}{pid}-{procfs.start_time(pid)}-{next(_counter)}"
    directory.mkdir(mode=0o711)
    return directory


def sweep() -> list[Path]:
    """Clear what labs have left whose process is gone; their directories."""
    dead = [directory for directory in _PARENT.glob(f"{_PREFIX}*") if _is_dead(directory)]
    for directory in dead:
        clear(directory)
    return dead


def clear(directory: Path) -> None:
    """Take away everything of a run, whatever state it is in."""
    with contextlib.suppress(FileNotFoundError), _alone_in(directory), contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        stack.callback(_remove_cgroups, directory.name)
        for node in directory.iterdir():
            stack.callback(kill_recorded_keeper, node)


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keep other sweeps out. FileNotFoundError when one of them has cleared the directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        directory.stat()
        yield
    finally:
        os.close(descriptor)


def _is_dead(directory: Path) -> bool:
    owner = _NAME.fullmatch(directory.name)
    return owner is not None and procfs.start_time(int(owner[1])) != int(owner[2])


def _remove_cgroups(name: str) -> None:
    for mount in _cgroup_mounts():
        for directory, _, _ in os.walk(mount / name, topdown=False):
            _remove_cgroup(Path(directory))


def _remove_cgroup(directory: Path, *, patience: float = 60) -> None:
    """Remove one cgroup; the kernel calls it busy for a moment after its last process has ended."""
    deadline = time.monotonic() + patience
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise LabError(f"cannot remove the cgroup {directory}: {error}") from error
            time.sleep(0.02)
        else:
            return


def _cgroup_mounts() -> Iterator[Path]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in {"cgroup", "cgroup2"}:
            yield Path(before.split()[4])
