# SPDX-License-Identifier: Apache-2.0
"""dni on one lab host: `dni up` and the programs it runs."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Literal

from tests.lab import procfs, unix_http
from tests.lab.errors import LabError
from tests.lab.node import Node

PLUGIN_SOCKET = "/run/docker/plugins/dni.sock"
Program = Literal["up", "plugin-master", "plugin-worker", "agent"]
_READY_SECONDS = 30
_STOP_SECONDS = 60  # more than `dni up` itself gives its programs


NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--"),
)
"""Before a command: as a user without any right but to read files, so that the checkout may lie anywhere."""


def command(*words: str) -> tuple[str, ...]:
    """Answer the argv of `dni WORDS`, with the interpreter that runs the tests."""
    return (sys.executable, "-m", "dni_driver", *words)


class Dni:
    """`dni up` in a node."""

    def __init__(self, node: Node) -> None:
        """Start nothing yet."""
        self._node = node
        self._process: subprocess.Popen[bytes] | None = None
        self.log = node.directory / "dni.log"

    def launch(self, settings: Mapping[str, object], env: Mapping[str, str]) -> None:
        """Start `dni up` with these settings (`section_key=value`) and variables, without waiting for it."""
        if self._process is not None and self._process.poll() is None:
            raise LabError(f"dni runs already on {self._node.name}")
        own = {f"DNI_{key.upper()}": _as_setting(value) for key, value in settings.items()}
        self._process = self._node.spawn(*command("up"), log=self.log, env={**env, **own})

    def wait_until_ready(self) -> None:
        """Wait until POST /Plugin.Activate is answered with 200."""
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"dni of {self._node.name} does not start:\n{self._last_words()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM `dni up` and wait for its end."""
        self._end(signal.SIGTERM)

    def kill(self, program: Program) -> None:
        """SIGKILL one program; `dni up` itself is waited for, the others are `dni up`'s to restart."""
        if program == "up":
            self._end(signal.SIGKILL)
        else:
            os.kill(self.pid(program), signal.SIGKILL)

    def pid(self, program: Program) -> int:
        """Answer the pid of one of the programs; one that just ended is waited for, `dni up` starts it again."""
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                return self._pid(program)
            except (LabError, OSError):
                if time.monotonic() > deadline or self._process is None or self._process.poll() is not None:
                    raise
            time.sleep(0.02)

    def _pid(self, program: Program) -> int:
        """Find a program among the child processes of `dni up`."""
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"dni does not run on {self._node.name}")
        if program == "up":
            return self._process.pid
        if program == "plugin-worker":
            return _only(procfs.children(self._pid("plugin-master")), program)
        word = program.removesuffix("-master")
        return _only([pid for pid in procfs.children(self._process.pid) if word in procfs.command_line(pid)], program)

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise LabError(f"dni of {self._node.name} does not stop:\n{self._last_words()}") from None
        self._process = None

    def _answers(self) -> bool:
        try:
            status = unix_http.request(self._node.path(PLUGIN_SOCKET), "POST", "/Plugin.Activate")
        except (OSError, http.client.HTTPException):
            return False
        return status == http.client.OK

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


def _only(pids: list[int], program: Program) -> int:
    if len(pids) != 1:
        raise LabError(f"expected one {program} below `dni up`, found {len(pids)}")
    return pids[0]


def _as_setting(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
