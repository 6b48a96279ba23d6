# SPDX-License-Identifier: Apache-2.0
"""Callers that begin a call and say no more."""

from __future__ import annotations

import itertools
import socket
from contextlib import ExitStack
from pathlib import Path

from dni_driver.cli.settings import PluginSettings
from tests.contract.dockerd import request_bytes
from tests.contract.plugin import running

SILENT = "dni_driver.plugin.serving._SILENT_SECONDS"

CALL = request_bytes("NetworkDriver.GetCapabilities", b"{}")


def test_whoever_says_no_more_is_in_nobodys_way_for_long(tmp_path: Path) -> None:
    """There are as many of them as there are threads; they say nothing, half a head, or half a body."""
    (tmp_path / "limits").write_text(f"{SILENT} 0.2")
    said = itertools.cycle((b"", CALL[:20], CALL[:-1]))
    with running(tmp_path) as plugin, ExitStack() as callers:
        for _ in range(PluginSettings().threads):
            caller = callers.enter_context(socket.socket(socket.AF_UNIX))
            caller.connect(str(plugin.socket))
            caller.sendall(next(said))
        plugin.dockerd().call("NetworkDriver.GetCapabilities")
