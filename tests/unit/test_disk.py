# SPDX-License-Identifier: Apache-2.0
"""One wait for the disk serves all who came before it began."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from dni_driver.core.deadline import deadline
from dni_driver.core.errors import DeadlineExceeded
from dni_driver.store.disk import Disk

PATIENCE = 60.0
MANY = 8


class SlowDisk:
    """A disk whose syncs a test lets end, one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of the real one."""
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.syncs = 0
        self.failing: set[int] = set()
        monkeypatch.setattr("dni_driver.store.disk.os.fdatasync", self._sync)

    def _sync(self, _: int) -> None:
        self.syncs += 1
        number = self.syncs
        self.begun.release()
        assert self.go.acquire(timeout=PATIENCE)
        if number in self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    return SlowDisk(monkeypatch)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    (tmp_path / "log").touch()
    return Disk(tmp_path / "log")


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(MANY + 1) as crowd:
        yield crowd


def waiting(disk: Disk, crowd: ThreadPoolExecutor, slow: SlowDisk) -> tuple[Future[None], list[Future[None]]]:
    """Have one sync, and many wait who came after that had begun."""
    first = crowd.submit(disk.sync)
    assert slow.begun.acquire(timeout=PATIENCE)
    others = [crowd.submit(disk.sync) for _ in range(MANY)]
    while len(disk._changed._waiters) < MANY:  # type: ignore[attr-defined]  # noqa: SLF001
        threading.Event().wait(0.001)
    return first, others


def test_many_share_a_sync_but_not_one_that_had_begun(disk: Disk, crowd: ThreadPoolExecutor, slow: SlowDisk) -> None:
    first, others = waiting(disk, crowd, slow)
    slow.go.release()
    first.result(PATIENCE)
    assert slow.begun.acquire(timeout=PATIENCE)
    assert not any(other.done() for other in others)
    slow.go.release()
    for other in others:
        other.result(PATIENCE)
    assert slow.syncs == 2


def test_a_failure_is_told_to_those_who_shared_it_and_to_nobody_else(
    disk: Disk, crowd: ThreadPoolExecutor, slow: SlowDisk
) -> None:
    slow.failing = {2}
    first, others = waiting(disk, crowd, slow)
    slow.go.release(2)
    first.result(PATIENCE)
    assert [str(other.exception(PATIENCE)) for other in others] == ["[Errno 5] Input/output error"] * MANY
    slow.go.release()
    disk.sync()


def test_nobody_waits_for_another_beyond_the_own_deadline(
    disk: Disk, crowd: ThreadPoolExecutor, slow: SlowDisk
) -> None:
    first = crowd.submit(disk.sync)
    assert slow.begun.acquire(timeout=PATIENCE)
    with deadline(0.05), pytest.raises(DeadlineExceeded, match=r"the disk under .* takes too long"):
        disk.sync()
    slow.go.release(2)
    first.result(PATIENCE)


def test_a_file_that_is_not_there_has_nothing_to_sync(tmp_path: Path) -> None:
    Disk(tmp_path / "none").sync()
