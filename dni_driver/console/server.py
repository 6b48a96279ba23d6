# SPDX-License-Identifier: Apache-2.0
"""Serves the operator API on a Unix socket, for root and the socket's group."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

from flask import Flask
from waitress import create_server, wasyncore

from dni_driver.core.errors import Unavailable

_UMASK = 0o117
"""Mode 0660: root and the socket's group, nobody else."""

THREADS = 4
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
        self._server: Any = create_server(app, sockets=[self._socket], threads=THREADS, ident=None)

    def run(self) -> None:
        """Answer until `stop`, or until a signal handler raises something in this thread."""
        try:
            while not self._stopping.is_set():
                wasyncore.loop(_IDLE_SECONDS, use_poll=True, map=self._server._map, count=1)  # noqa: SLF001
        finally:
            self._server.task_dispatcher.shutdown()
            with self._ending:
                self._stopping.set()
                wasyncore.close_all(self._server._map)  # noqa: SLF001 - as above: waitress has no stop of its own
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
