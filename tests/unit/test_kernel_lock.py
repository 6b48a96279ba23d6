# SPDX-License-Identifier: Apache-2.0
"""One writer at a time."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import NoReturn

import pytest

from dni_driver.core.deadline import deadline
from dni_driver.core.errors import KernelError, Unavailable
from dni_driver.kernel import Kernel
from dni_driver.kernel.lock import locked
from dni_driver.kernel.netlink import conversation


def test_who_waits_for_the_lock_waits_no_longer_than_its_caller(tmp_path: Path) -> None:
    lock = tmp_path / "kernel.lock"
    with (
        locked(lock),
        deadline(0.05),
        pytest.raises(Unavailable, match=f"has held {lock} for too long"),
        locked(lock),
    ):
        raise AssertionError("held twice")


def test_the_lock_is_free_after_a_failure(tmp_path: Path) -> None:
    lock = tmp_path / "kernel.lock"
    with pytest.raises(ZeroDivisionError), locked(lock):
        raise ZeroDivisionError
    with deadline(0.05), locked(lock):
        pass


def test_threads_take_turns(tmp_path: Path) -> None:
    lock = tmp_path / "kernel.lock"
    inside = 0
    most = 0

    def enter() -> None:
        nonlocal inside, most
        with locked(lock):
            inside += 1
            most = max(most, inside)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KernelError, match=f"{tmp_path}/file/run cannot be made: Not a directory"):
        Kernel(tmp_path / "file/run")


def test_a_kernel_that_does_not_answer_is_an_error_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(**_: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(conversation, "IPRoute", silent)
    with pytest.raises(KernelError, match="the kernel cannot be asked: Too many open files"):
        Kernel(tmp_path).agent_address()


def test_a_lock_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=f"{tmp_path} cannot be locked: Is a directory"), locked(tmp_path):
        raise AssertionError("locked a folder")
