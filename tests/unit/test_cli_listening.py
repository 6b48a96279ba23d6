# SPDX-License-Identifier: Apache-2.0
"""The plugin socket, and the lock that makes each program the only one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dni_driver.cli import locks
from dni_driver.cli.listening import handed_over, listen
from dni_driver.core.errors import Unavailable


def test_a_socket_is_made_with_its_directory_for_root_and_its_group(tmp_path: Path) -> None:
    path = tmp_path / "run" / "plugins" / "dni.sock"
    with listen(path) as listener, socket.socket(socket.AF_UNIX) as caller:
        assert path.stat().st_mode & 0o777 == 0o660
        caller.connect(str(path))
        listener.accept()[0].close()


def test_calls_wait_in_a_long_queue_while_nobody_accepts(tmp_path: Path) -> None:
    path = tmp_path / "dni.sock"
    callers: list[socket.socket] = []
    with listen(path):
        for _ in range(500):
            callers.append(socket.socket(socket.AF_UNIX))
            callers[-1].settimeout(0)
            callers[-1].connect(str(path))
        for caller in callers:
            caller.close()


def test_what_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "dni.sock"
    listen(path).close()
    assert path.exists()
    listen(path).close()


def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "dni.sock"
    with listen(path) as listener:
        with pytest.raises(Unavailable, match=r"somebody listens on .*dni\.sock already"):
            listen(path)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
            listener.accept()[0].close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "dni.sock"
    path.write_text("mine")
    with pytest.raises(Unavailable, match="it is no socket"):
        listen(path)
    assert path.read_text() == "mine"


def test_a_place_where_no_socket_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"cannot listen on .*/file/dni.sock: "):
        listen(tmp_path / "file" / "dni.sock")


def test_a_socket_passed_to_another_process_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert not handed_over()
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert handed_over()


def test_several_passed_sockets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    with pytest.raises(Unavailable, match="LISTEN_FDS is 2"):
        handed_over()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock until it is killed."""
    script = (
        "import pathlib, time; from dni_driver.cli import locks\n"
        f"locks.take(pathlib.Path({str(tmp_path / 'up.lock')!r}), 'other', 0); print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_who_holds_a_lock_is_named_by_its_pid(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"`dni up` runs here already \\(pid {holder.pid}\\): stop that first"):
        locks.take(tmp_path / "up.lock", "`dni up`", 0)


def test_a_killed_holder_holds_nothing(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    os.close(locks.take(tmp_path / "up.lock", "`dni up`", 0))


def test_a_managed_plugin_that_holds_a_lock_is_named_as_docker_names_it(tmp_path: Path) -> None:
    lock = locks.take(tmp_path / "up.lock", "`dni up`", 0, "dni:latest")
    with pytest.raises(Unavailable, match=r"runs here already \(managed plugin dni:latest\): stop that first"):
        locks.take(tmp_path / "up.lock", "`dni up`", 0)
    os.close(lock)


def test_a_lock_is_waited_for(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    killer = threading.Timer(0.2, holder.kill)
    began = time.monotonic()
    killer.start()
    locks.await_end(tmp_path / "up.lock", "`dni up`", 60)
    assert 0.1 < time.monotonic() - began < 60
    killer.join()


def test_nobody_else_can_lock_dni_out(tmp_path: Path) -> None:
    os.close(locks.take(tmp_path / "run" / "up.lock", "`dni up`", 0))
    assert (tmp_path / "run" / "up.lock").stat().st_mode & 0o777 == 0o600


def test_a_place_where_no_lock_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"cannot use .*/file/up\.lock: "):
        locks.take(tmp_path / "file" / "up.lock", "`dni up`", 0)


def test_a_socket_whose_queue_is_full_is_somebodys_too(tmp_path: Path) -> None:
    """As where the program that holds it has been stopped."""
    path = tmp_path / "dni.sock"
    with socket.socket(socket.AF_UNIX) as stopped, socket.socket(socket.AF_UNIX) as caller:
        stopped.bind(str(path))
        stopped.listen(0)
        caller.connect(str(path))
        with pytest.raises(Unavailable, match=r"somebody listens on .*dni\.sock already"):
            listen(path)
    assert path.exists()


def test_what_an_earlier_holder_has_noted_is_no_part_of_the_name_of_the_next(tmp_path: Path) -> None:
    os.close(locks.take(tmp_path / "up.lock", "`dni up`", 0, "registry.example/net/dni:latest"))
    lock = locks.take(tmp_path / "up.lock", "`dni up`", 0)
    assert locks.holder(tmp_path / "up.lock") == f"pid {os.getpid()}"
    os.close(lock)
