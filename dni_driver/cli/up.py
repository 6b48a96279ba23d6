# SPDX-License-Identifier: Apache-2.0
"""`dni up`: takes what there may be one of on a host, and becomes the program that holds it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from dni_driver.cli import locks
from dni_driver.cli.held import PROGRAM, SIGNALS, Held
from dni_driver.cli.listening import listen
from dni_driver.cli.settings import Settings


def run(settings: Settings, file: Path | None) -> NoReturn:
    """Run until SIGTERM or SIGINT; `file` is the settings file that was named, for the programs to read too.

    Raises Unavailable where dni runs already, or its socket cannot be had.
    """
    directory = settings.run.directory
    lock = locks.take(directory / "up.lock", "`dni up`", 0, settings.plugin.driver)
    for program in ("plugin", "agent"):
        locks.await_end(directory / f"{program}.lock", f"`dni serve {program}`", locks.PREDECESSOR_SECONDS)
    path = settings.plugin.socket
    with listen(path) as listener:
        held = Held(lock, listener.fileno(), str(path), settings.log.level, settings.log.format, str(file or ""))
        for descriptor in (held.lock, held.listener):
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - takes no keyword
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        command = (sys.executable, "-P", "-m", PROGRAM, *held.in_words())
        os.execv(command[0], command)  # noqa: S606 - it needs no shell
