# SPDX-License-Identifier: Apache-2.0
"""`dni up`: holds the plugin socket and runs the plugin and the agent around it.

It stays small on purpose, and imports neither: what it holds must outlive what can fail.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from pathlib import Path

import structlog

from dni_driver.cli import locks
from dni_driver.cli.listening import listen
from dni_driver.cli.loading import load
from dni_driver.cli.settings import Settings
from dni_driver.cli.supervisor import Program, Supervisor

log = structlog.get_logger(__name__)

PLUGIN_GRACE = 30.0
"""Seconds that the plugin has to answer the calls it has; a handler's deadline is 20."""

AGENT_GRACE = 10.0

_ACCEPT_SECONDS = 2.0
_POLL_SECONDS = 0.01


def run(settings: Settings, file: Path | None) -> None:
    """Run until SIGTERM or SIGINT; `file` is the settings file that was named, for the programs to read too.

    Raises Unavailable where dni runs already, or its socket cannot be had.
    """
    directory = settings.run.directory
    locks.take(directory / "up.lock", "`dni up`", 0, settings.plugin.driver)
    for program in ("plugin", "agent"):
        locks.await_end(directory / f"{program}.lock", f"`dni serve {program}`", locks.PREDECESSOR_SECONDS)
    path = settings.plugin.socket
    with listen(path) as listener:
        log.info("listening", socket=str(path))
        supervisor = Supervisor(_programs(file, listener), lambda: load(file))
        supervisor.run(before_end=lambda: _close_the_door(path, listener))
    log.info("stopped")


def _programs(file: Path | None, listener: socket.socket) -> list[Program]:
    """Answer the programs in the order in which they end: the plugin may need the agent for its last calls."""
    options = () if file is None else ("--config", str(file))
    command = (sys.executable, "-P", "-m", "dni_driver", *options, "serve")
    return [
        Program(name="plugin", argv=(*command, "plugin"), grace=PLUGIN_GRACE, listener=listener),
        Program(name="agent", argv=(*command, "agent"), grace=AGENT_GRACE),
    ]


def _close_the_door(path: Path, listener: socket.socket) -> None:
    """Let nobody in any more, and those who wait outside reach the plugin.

    dockerd repeats a call that found no socket, whole; one cut off after it was sent, without its body.
    """
    path.unlink(missing_ok=True)
    gives_up = time.monotonic() + _ACCEPT_SECONDS
    while time.monotonic() < gives_up and select.select([listener], [], [], 0)[0]:
        time.sleep(_POLL_SECONDS)
