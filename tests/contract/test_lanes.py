# SPDX-License-Identifier: Apache-2.0
"""What containers wait for is answered at the operator API's socket whatever else is under way there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from dni_driver.console.app import create_app
from dni_driver.console.client import Console
from dni_driver.console.cni import CniOperations
from dni_driver.console.lanes import THREADS
from dni_driver.console.operations import Operations
from dni_driver.console.server import Server
from dni_driver.core.errors import Unavailable
from tests.scratch import fast_directory

CONTAINER = "/v1/cni/endpoints?overlay=dcos&container=c1&ifname=eth0"
ENOUGH = 10.0
"""Seconds."""


class Desk:
    """A server whose checks, or whose containers, take until `done` is set."""

    def __init__(self, directory: Path) -> None:
        """Have nobody wait yet."""
        self.path = directory / "dni.sock"
        self.done = threading.Event()
        self.begun = threading.Semaphore(0)
        self.operations, self.containers = Mock(spec=Operations), Mock(spec=CniOperations)
        self.operations.check.return_value = []
        self.server = Server(create_app(self.operations, cni=self.containers), self.path)

    @contextmanager
    def held_up(self, operation: Mock, ask: Callable[[Console], object]) -> Iterator[None]:
        """Have more callers wait for an operation than there are threads; let them go afterwards."""

        def wait(*_: Any) -> Any:
            self.begun.release()
            assert self.done.wait(6 * ENOUGH)
            return []

        operation.side_effect = wait
        callers = [threading.Thread(target=ask, args=(self.console(6 * ENOUGH),)) for _ in range(2 * THREADS)]
        for caller in callers:
            caller.start()
        try:
            for _ in range(THREADS):
                assert self.begun.acquire(timeout=ENOUGH)
            yield
        finally:
            self.done.set()
            for caller in callers:
                caller.join()

    def console(self, patience: float) -> Console:
        """Answer a client that waits for so many seconds."""
        return Console(self.path, patience=patience)


@pytest.fixture
def desk() -> Iterator[Desk]:
    with fast_directory() as directory:
        desk = Desk(Path(directory))
        serving = threading.Thread(target=desk.server.run)
        serving.start()
        try:
            yield desk
        finally:
            desk.server.stop()
            serving.join(6 * ENOUGH)


def check(console: Console) -> object:
    return console.post("/v1/check", {})


def detach(console: Console) -> object:
    return console.delete(CONTAINER)


def test_a_container_ends_while_more_checks_than_there_are_threads_wait_for_docker(desk: Desk) -> None:
    with desk.held_up(desk.operations.check, check):
        assert detach(desk.console(ENOUGH)) == {}
        with pytest.raises(Unavailable, match="took longer"):
            check(desk.console(0.2))


def test_a_check_is_answered_while_more_containers_than_there_are_threads_wait(desk: Desk) -> None:
    with desk.held_up(desk.containers.detach, detach):
        assert check(desk.console(ENOUGH)) == {"findings": []}


def test_those_who_had_to_wait_are_answered_too(desk: Desk) -> None:
    with desk.held_up(desk.operations.check, check):
        assert desk.operations.check.call_count == THREADS
    assert desk.operations.check.call_count == 2 * THREADS


def test_a_request_that_nobody_can_read_is_answered(desk: Desk) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(ENOUGH)
        caller.connect(str(desk.path))
        caller.sendall(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        assert caller.recv(12) == b"HTTP/1.0 400"
