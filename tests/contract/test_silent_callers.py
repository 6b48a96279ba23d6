# SPDX-License-Identifier: Apache-2.0
"""Callers that begin a call and say no more."""

from __future__ import annotations

import itertools
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from gunicorn.config import Config

from dni_driver.cli.settings import PluginSettings
from dni_driver.plugin import serving
from tests.contract.dockerd import request_bytes
from tests.contract.plugin import eventually, running

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


def test_whoever_goes_silent_in_the_middle_of_a_head_is_told_of_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "limits").write_text(f"{SILENT} 0.2")
    with running(tmp_path) as plugin, socket.socket(socket.AF_UNIX) as caller:
        before = len(plugin.log().splitlines())
        caller.connect(str(plugin.socket))
        caller.sendall(CALL[:20])
        eventually(lambda: len(plugin.log().splitlines()) > before, "nothing is told")
        assert caller.recv(1) == b""
        (told,) = plugin.log().splitlines()[before:]
    assert "a caller has said nothing, or taken nothing, for 0.2 s" in told


def test_what_is_no_callers_silence_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    log = serving._Logger(Config())  # noqa: SLF001
    try:
        int("no number")
    except ValueError:
        log.exception("Error handling request")
    assert caplog.records[0].exc_info
