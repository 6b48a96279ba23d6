# SPDX-License-Identifier: Apache-2.0
"""What the plugin does before its first call: dockerd waits in the socket's queue meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dni_driver.cli import serve_plugin
from dni_driver.cli.settings import ApiSettings, RunSettings, Settings, StoreSettings
from dni_driver.core.deadline import within
from dni_driver.core.errors import DeadlineExceeded
from dni_driver.core.wanted import Wanted
from tests.fakes import FakeKernel

LONG = 1000.0


class SlowKernel(FakeKernel):
    """A kernel that takes as long as it may to be mended, and is not done then."""

    granted = LONG

    def __init__(self, _: Path) -> None:
        """Begin with nothing."""
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
