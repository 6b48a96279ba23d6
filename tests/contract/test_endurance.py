# SPDX-License-Identifier: Apache-2.0
"""A plugin that has lived through a thousand containers is as small as it was."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.contract.plugin import Plugin, eventually
from tests.lab import procfs

pytestmark = pytest.mark.root

CONTAINERS = 1000
ON_A_NETWORK = 25
WARMING_UP = 100
"""Containers after which caches are full, every thread has its connection, and memory its final shape."""

AT_WORK = 2
"""Files that a call or a deletion may have open at the moment of looking, and threads it may have at work."""
SLACK_KIB = 8192


class Size(msgspec.Struct, frozen=True):
    """What a process holds: open files, threads, and memory of its own in KiB."""

    files: int
    threads: int
    memory: int


def size(pid: int) -> Size:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Size(
        len(list(Path(f"/proc/{pid}/fd").iterdir())), int(status["Threads"]), int(status["RssAnon"].split()[0])
    )


def live(plugin: Plugin, containers: int) -> None:
    """Create networks, run containers on them one after the other, and take all away."""
    engine = plugin.engine()
    for _ in range(containers // ON_A_NETWORK):
        engine.create("dcos")
        for number in range(ON_A_NETWORK):
            engine.run(f"c{number}", "dcos")
            engine.delete(f"c{number}")
        engine.remove("dcos")
    assert engine.logged == []


def test_a_thousand_containers_leave_files_threads_and_memory_as_they_were(real: Plugin) -> None:
    assert real.process is not None
    (worker,) = procfs.children(real.process.pid)
    live(real, WARMING_UP)
    before = size(worker)
    live(real, CONTAINERS)
    eventually(lambda: real.links() == [], "links are left", lambda: str(real.links()))
    after = size(worker)
    assert procfs.children(real.process.pid) == [worker]
    assert after.files <= before.files + AT_WORK
    assert after.threads <= before.threads + AT_WORK
    assert after.memory <= before.memory + SLACK_KIB
    assert {key for key in real.held() if not key.startswith("overlay")} == set()
