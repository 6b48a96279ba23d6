# SPDX-License-Identifier: Apache-2.0
"""Runs a few programs: starts them, starts again what dies, ends them in order.

One thread, no signal handlers: the signals are blocked and waited for, so nothing comes in between.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dni_driver.cli import lifeline, systemd
from dni_driver.cli.lines import Lines
from dni_driver.cli.listening import FIRST_INHERITED
from dni_driver.core.errors import DniError

SHORTEST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between the death of a program and its next start: doubled each time, from the one to the other."""

HEALTHY_SECONDS = 5.0
"""A program that ran for so long starts again after the shortest pause."""

_STOP = frozenset({signal.SIGTERM, signal.SIGINT})
_SIGNALS = _STOP | {signal.SIGHUP, signal.SIGCHLD}


class Program(NamedTuple):
    """What to run. `listener` becomes its descriptor 3; after SIGTERM it has `grace` seconds to end."""

    name: str
    argv: tuple[str, ...]
    grace: float
    listener: socket.socket | None = None


class _Child:
    """One program as it stands: running where `pid` is set, else to be started at `due` (monotonic)."""

    def __init__(self, program: Program, log: Lines) -> None:
        self.program = program
        self._log = log
        self.pid: int | None = None
        self.due = 0.0
        self._started = 0.0
        self._pause = 0.0

    def start(self) -> None:
        try:
            self.pid = _spawn(self.program)
        except OSError as error:
            self._log.error("not started", program=self.program.name, error=str(error))
            self.due = time.monotonic() + LONGEST_PAUSE
            return
        self._started = time.monotonic()
        self._log.info("started", program=self.program.name, pid=self.pid)

    def ended(self, status: int) -> None:
        """Note the death of its process, and when to start the next one."""
        now = time.monotonic()
        self.pid = None
        if now - self._started >= HEALTHY_SECONDS:
            self._pause = 0.0
        self._pause = min(LONGEST_PAUSE, self._pause * 2) or SHORTEST_PAUSE
        self.due = now + self._pause
        self._log.info("ended", program=self.program.name, status=_explained(status))

    def signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            os.kill(self.pid, number)


class Supervisor:
    """Runs programs until SIGTERM or SIGINT; SIGHUP restarts the first. A second SIGTERM kills what is left."""

    def __init__(self, programs: Sequence[Program], check_settings: Callable[[], object], log: Lines) -> None:
        """Take the programs, in the order in which they are ended.

        `check_settings` raises DniError where a restart would not get far.
        """
        self._children = [_Child(program, log) for program in programs]
        self._check_settings = check_settings
        self._log = log
        self._stops = 0
        self._reload = False

    def run(self, before_end: Callable[[], None]) -> None:
        """Start them all, in reverse order, and return when they have ended; call `before_end` first."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for child in reversed(self._children):
            child.start()
        systemd.notify("READY=1")
        while not self._stops:
            self._wait(min((child.due for child in self._children if child.pid is None), default=None))
            self._start_due()
            self._restart_where_asked()
        systemd.notify("STOPPING=1")
        before_end()
        for child in self._children:
            self._end(child)

    def _start_due(self) -> None:
        for child in self._children:
            if child.pid is None and child.due <= time.monotonic() and not self._stops:
                child.start()

    def _restart_where_asked(self) -> None:
        if not self._reload:
            return
        self._reload = False
        first = self._children[0]
        try:
            self._check_settings()
        except DniError as error:
            self._log.error("not restarted", program=first.program.name, error=str(error))
            return
        self._log.info("restarting", program=first.program.name)
        self._end(first)
        if not self._stops:
            first.start()

    def _end(self, child: _Child) -> None:
        """Ask a program to end, wait for it, and kill it where that takes too long."""
        child.signal(signal.SIGTERM)
        ends = time.monotonic() + child.program.grace
        while child.pid is not None and self._stops <= 1 and time.monotonic() < ends:
            self._wait(ends)
        if child.pid is not None:
            self._log.warning("killed", program=child.program.name, pid=child.pid)
            child.signal(signal.SIGKILL)
        while child.pid is not None:
            self._wait(None)

    def _wait(self, until: float | None) -> None:
        """Wait for a signal, until a time (monotonic) at the most, and note what it asks for."""
        if until is None:
            number = signal.sigwaitinfo(_SIGNALS).si_signo
        else:
            info = signal.sigtimedwait(_SIGNALS, max(0.0, until - time.monotonic()))
            number = info.si_signo if info else 0
        self._stops += number in _STOP
        self._reload = self._reload or number == signal.SIGHUP
        self._reap()

    def _reap(self) -> None:
        while any(child.pid is not None for child in self._children):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            for child in self._children:
                if child.pid == pid:
                    child.ended(status)


def _spawn(program: Program) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become(program, parent)
        finally:
            os._exit(127)
    return pid


def _become(program: Program, parent: int) -> None:
    """Turn a fresh fork into the program: the terminal's Ctrl-C is its parent's affair, its parent's death is not."""
    os.setsid()
    lifeline.end_with(parent)
    environment = dict(os.environ)
    environment.pop(systemd.NOTIFY_SOCKET, None)
    if program.listener is not None:
        os.dup2(program.listener.fileno(), FIRST_INHERITED)
        os.set_inheritable(FIRST_INHERITED, True)  # noqa: FBT003 - takes no keyword
        environment.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    os.execve(program.argv[0], program.argv, environment)  # noqa: S606 - it needs none


def _explained(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
