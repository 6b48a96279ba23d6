# SPDX-License-Identifier: Apache-2.0
"""What the plugin does before its first call: dockerd waits in the socket's queue meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dni_driver.cli import serve_plugin, systemd
from dni_driver.cli.settings import ApiSettings, RunSettings, Settings, StoreSettings
from dni_driver.core.deadline import within
from dni_driver.core.errors import DeadlineExceeded, DniError, StoreError
from dni_driver.core.wanted import Wanted
from dni_driver.kernel.peers.neighbourhood import LeftToTheAgent
from tests.fakes import FakeKernel

LONG = 1000.0


class SlowKernel(FakeKernel):
    """A kernel that takes as long as it may to be mended, and is not done then."""

    granted = LONG

    def __init__(self, _: Path, peers: object) -> None:
        """Begin with nothing."""
        assert peers is LeftToTheAgent
        super().__init__()

    def reconcile(self, _: Callable[[], Wanted]) -> list[str]:
        """Note how much time there is."""
        type(self).granted = within(LONG)
        raise DeadlineExceeded("out of time")

    def drain(self) -> None:
        """Have nothing to delete."""

    def close(self) -> None:
        """Hold nothing."""


def test_the_plugin_serves_although_the_host_takes_too_long_to_mend(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_plugin, "Kernel", SlowKernel)
    settings = Settings(
        store=StoreSettings(directory=path.parent),
        run=RunSettings(directory=path.parent),
        api=ApiSettings(socket=path.parent / "api.sock"),
    )
    with serve_plugin.plugin_app(settings) as app:
        assert callable(app)
    assert SlowKernel.granted <= 20


@contextmanager
def _opened(error: DniError | None = None) -> Iterator[Any]:
    if error is not None:
        raise error
    yield "the app"


def test_the_service_manager_hears_when_calls_are_answered() -> None:
    told: list[str] = []
    with serve_plugin.announced(_opened(), told.append) as app:
        assert str(app) == "the app"
        assert told == ["READY=1\nSTATUS=answers dockerd"]


def test_the_service_manager_hears_why_every_call_is_refused_and_dockerd_may_start() -> None:
    told: list[str] = []
    failing = serve_plugin.announced(_opened(StoreError("the store is\ndamaged")), told.append)
    with pytest.raises(StoreError), failing:
        pytest.fail("it opened")
    assert told == ["READY=1\nSTATUS=refuses every call: the store is damaged"]


def test_nobody_else_in_the_process_speaks_to_the_service_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify.sock"))
        manager.settimeout(0)
        monkeypatch.setenv(systemd.NOTIFY_SOCKET, str(tmp_path / "notify.sock"))
        notify = systemd.only_notifier()
        systemd.notify("READY=1 of somebody else")
        with pytest.raises(BlockingIOError):
            manager.recv(100)
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"
