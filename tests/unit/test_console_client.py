# SPDX-License-Identifier: Apache-2.0
"""Asking the operator API: what becomes of a call that comes before the agent listens."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from dni_driver.console.client import Console
from dni_driver.core.errors import Unavailable

_ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ntrue"


def _answer_once(path: Path, after: float) -> None:
    time.sleep(after)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(_ANSWER)


def test_a_call_waits_for_an_agent_that_is_about_to_listen(tmp_path: Path) -> None:
    path = tmp_path / "dni.sock"
    agent = threading.Thread(target=_answer_once, args=(path, 0.3))
    agent.start()
    assert Console(path, awaits=30.0).get("/v1/status") is True
    agent.join()


def test_a_call_waits_where_the_socket_is_one_of_an_agent_that_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "dni.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    agent = threading.Thread(target=_answer_once, args=(path, 0.3))
    agent.start()
    assert Console(path, awaits=30.0).get("/v1/status") is True
    agent.join()


def test_where_no_agent_comes_the_call_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="start it with `dni up`"):
        Console(tmp_path / "dni.sock", awaits=0.2).get("/v1/status")


def test_without_a_word_about_waiting_a_call_fails_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        Console(tmp_path / "dni.sock").get("/v1/status")
    assert time.monotonic() - started < 5
