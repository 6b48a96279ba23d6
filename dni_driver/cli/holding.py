# SPDX-License-Identifier: Apache-2.0
"""What `dni up` becomes: holds the plugin socket, and runs the plugin and the agent around it.

It imports the standard library alone, and as little of that as will do: what it holds must outlive what can fail,
and is there as long as dni is. It is run with the words that `Held.in_words` answers.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dni_driver.cli.held import Held
from dni_driver.cli.lines import Lines
from dni_driver.cli.supervisor import Program, Supervisor
from dni_driver.core.errors import SettingsError

PLUGIN_GRACE = 30.0
"""Seconds that the plugin has to answer the calls it has; a handler's deadline is 20."""

AGENT_GRACE = 10.0

_SETTINGS_SECONDS = 10.0
_ACCEPT_SECONDS = 2.0
_POLL_SECONDS = 0.01


def main(words: Sequence[str]) -> None:
    """Run until SIGTERM or SIGINT."""
    held = Held.read(words)
    for descriptor in (held.lock, held.listener):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - takes no keyword
    log = Lines("up", held.level, held.form)
    log.info("listening", socket=held.path)
    dni = (sys.executable, "-P", "-m", "dni_driver", *(("--config", held.file) if held.file else ()))
    with socket.socket(fileno=held.listener) as listener:
        supervisor = Supervisor(_programs(dni, listener), lambda: _check_settings(held.file), log)
        supervisor.run(before_end=lambda: _close_the_door(Path(held.path), listener))
    log.info("stopped")


def _programs(dni: Sequence[str], listener: socket.socket) -> list[Program]:
    """Answer the programs in the order in which they end: the plugin may need the agent for its last calls."""
    return [
        Program(name="plugin", argv=(*dni, "serve", "plugin"), grace=PLUGIN_GRACE, listener=listener),
        Program(name="agent", argv=(*dni, "serve", "agent"), grace=AGENT_GRACE),
    ]


def _check_settings(file: str) -> None:
    """Raise SettingsError where a program could not read its settings; the dni that is installed now is asked."""
    import subprocess  # noqa: PLC0415 - as little as will do: nobody may ever ask

    command = (sys.executable, "-P", "-m", "dni_driver.cli.loading", *filter(None, [file]))
    try:
        subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=_SETTINGS_SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        raise SettingsError(error.stderr.strip()) from None
    except subprocess.TimeoutExpired:
        raise SettingsError("the settings cannot be read in time: the host is overloaded") from None


def _close_the_door(path: Path, listener: socket.socket) -> None:
    """Let nobody in any more, and those who wait outside reach the plugin.

    dockerd repeats a call that found no socket, whole; one cut off after it was sent, without its body.
    """
    path.unlink(missing_ok=True)
    gives_up = time.monotonic() + _ACCEPT_SECONDS
    while time.monotonic() < gives_up and select.select([listener], [], [], 0)[0]:
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
