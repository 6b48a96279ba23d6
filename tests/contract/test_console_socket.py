# SPDX-License-Identifier: Apache-2.0
"""The socket of the operator API: whose it is, who may open it, and what is said where nobody answers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dni_driver.console.app import create_app
from dni_driver.console.client import Console
from dni_driver.console.server import Server
from dni_driver.core.errors import DniError, Unavailable
from tests.contract.operations import _Operations, operations, path, serving

__all__ = ["operations", "path"]


@pytest.mark.usefixtures("operations")
def test_the_socket_is_for_root_and_its_group(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o660


def test_the_socket_of_a_dead_agent_is_replaced_and_ours_goes_with_us(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(_Operations(), path):
        assert Console(path).post("/v1/check", {})["findings"]
    assert not path.exists()


class _AskedToEnd(BaseException):
    """What the handler of the signal raises, as the agent's does."""


def test_a_signal_that_interrupts_no_sleep_ends_it_all_the_same(path: Path) -> None:
    """As one that comes right before the sleep begins: here it is another thread that it interrupts."""

    def end(*_: object) -> None:
        raise _AskedToEnd

    def ask() -> None:
        Console(path).get("/v1/status")
        time.sleep(0.2)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    server = Server(create_app(_Operations()), path)
    before = signal.signal(signal.SIGUSR1, end)
    asking = threading.Thread(target=ask)
    asking.start()
    began = time.monotonic()
    try:
        with pytest.raises(_AskedToEnd):
            server.run()
    finally:
        signal.signal(signal.SIGUSR1, before)
        asking.join(60)
    assert time.monotonic() - began < 15
    assert not path.exists()


def test_a_successors_socket_is_left_alone(path: Path) -> None:
    with serving(_Operations(), path):
        path.unlink()
        path.touch()
    assert path.exists()


def test_a_path_that_cannot_be_listened_on_is_named(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(Unavailable, match=f"cannot listen on {path}"):
        Server(create_app(_Operations()), path)


def test_a_socket_that_nobody_serves_is_explained(path: Path) -> None:
    with pytest.raises(Unavailable, match=f"the dni agent does not answer at {path}: start it with `dni up`"):
        Console(path).get("/v1/status")


def test_an_agent_that_takes_too_long_is_explained(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(Unavailable, match=r"took longer than 0\.1 s"):
            Console(path, patience=0.1).get("/v1/status")


def test_something_else_behind_the_socket_is_explained(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()

        def answer() -> None:
            peer, _ = other.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DniError, match="is not the dni agent"):
            Console(path).get("/v1/status")
        thread.join(60)


AS_NOBODY = """
import os, sys
from pathlib import Path
from dni_driver.console.client import Console
from dni_driver.core.errors import Unavailable
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    Console(Path(sys.argv[1])).get("/v1/status")
except Unavailable as error:
    print(error)
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_who_may_not_open_the_socket_is_told_so(operations: _Operations, path: Path) -> None:
    for folder in (path.parent, path.parent.parent):
        folder.chmod(0o755)
    said = subprocess.run([sys.executable, "-c", AS_NOBODY, str(path)], check=True, capture_output=True, text=True)
    assert said.stdout == f"you may not open {path}: use sudo dni ...\n"
    assert operations.asked == []


def test_the_client_loads_nothing_slow() -> None:
    """Every command waits for what its client imports."""
    program = "import sys, dni_driver.console.client; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert not {"flask", "werkzeug", "docker", "waitress", "structlog", "pyroute2", "msgspec"} & set(
        said.stdout.split()
    )
