# SPDX-License-Identifier: Apache-2.0
"""Serves the operator API on a Unix socket, for root and the socket's group; on TCP, where that is asked for."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from flask import Flask
from waitress import create_server, wasyncore
from waitress.task import ThreadedTaskDispatcher
from waitress.trigger import trigger

from dni_driver.console import cni
from dni_driver.console.lanes import Lanes, lane
from dni_driver.core.errors import Unavailable
from dni_driver.core.listen_address import ListenAddress

log = structlog.get_logger(__name__)

_UMASK = 0o117
"""Mode 0660: root and the socket's group, nobody else."""

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_AT_THE_SOCKET, _OVER_TCP = 400, 100
"""How many connections there are of both kinds together when no more are taken of one: whoever opens many over TCP,
where nobody knows who asks, is in nobody's way at the socket."""
_LARGEST_BODY = 1 << 18
"""In bytes. What is longer is not read: waitress would put it on the disk, up to a gigabyte for each connection. The
app answers in its own words what is longer than it takes, and not as long as this."""
_IDLE_SECONDS = 30.0
"""How long waitress sleeps where nothing happens; it then looks for connections to give up."""


class Server:
    """A listening socket and what answers on it."""

    def __init__(self, app: Flask, path: Path) -> None:
        """Listen, in place of what a dead agent left there; raise Unavailable where the path cannot be used."""
        self._path = path
        self._stopping = threading.Event()
        self._ending = threading.RLock()
        try:
            self._socket = _listen(path)
        except OSError as error:
            raise Unavailable(f"cannot listen on {path}: {error.strerror or error}") from None
        self._inode = path.stat().st_ino
        self._map: dict[int, Any] = {}
        self._server = self._serve(app, self._socket, Lanes(cni.is_waited_for), _AT_THE_SOCKET)
        self._servers = [self._server]

    def listen_too(self, app: Flask, at: ListenAddress) -> None:
        """Have another app answer over TCP, before `run`; raise Unavailable where nobody can listen there."""
        try:
            listener = socket.create_server((str(at.host), at.port), family=_FAMILIES[at.host.version])
        except OSError as error:
            raise Unavailable(f"cannot listen on {at} (api.listen): {error.strerror or error}") from None
        self._servers.append(self._serve(app, listener, lane(), _OVER_TCP))
        log.info("listening", address=str(at))

    def _serve(
        self, app: Flask, listener: socket.socket, dispatcher: Lanes | ThreadedTaskDispatcher, most: int
    ) -> Any:
        return create_server(
            app,
            map=self._map,
            sockets=[listener],
            ident=None,
            connection_limit=most,
            max_request_body_size=_LARGEST_BODY,
            _dispatcher=dispatcher,
        )

    def run(self) -> None:
        """Answer until `stop`, or until a signal handler raises something in this thread."""
        try:
            with _roused_by_signals(self._map):
                while not self._stopping.is_set():
                    wasyncore.loop(_IDLE_SECONDS, use_poll=True, map=self._map, count=1)
        finally:
            for server in self._servers:
                server.task_dispatcher.shutdown()
            with self._ending:
                self._stopping.set()
                wasyncore.close_all(self._map)  # waitress has no stop of its own
            self._remove_socket()

    def stop(self) -> None:
        """End `run`, from any thread; calls that are being answered have 5 s to end."""
        with self._ending:
            if not self._stopping.is_set():
                self._stopping.set()
                self._server.pull_trigger()

    def _remove_socket(self) -> None:
        """Remove the socket, unless a successor listens there already."""
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except FileNotFoundError:
            pass


@contextmanager
def _roused_by_signals(channels: dict[int, Any]) -> Iterator[None]:
    """Have a signal end waitress's sleep in the main thread, where handlers run, also if it comes right before that.

    By itself it ends only a system call that has begun (signal(7)): its handler would run when the sleep is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told = trigger(channels)
    os.set_blocking(told.trigger, False)
    before = signal.set_wakeup_fd(told.trigger, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(_UMASK)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def serve(app: Flask, path: Path) -> None:
    """Listen and answer until a signal handler raises something; raise Unavailable where the path is unusable."""
    Server(app, path).run()
