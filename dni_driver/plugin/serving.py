# SPDX-License-Identifier: Apache-2.0
"""How the plugin's app is served: gunicorn, one worker with threads, that loses no call it has taken.

No time limit of gunicorn's and no kept-alive connection: dockerd repeats a call that broke off without its
body. A worker that dies is there again at once; the socket is held outside of it.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.sync import SyncWorker

from dni_driver.core.deadline import holding
from dni_driver.core.errors import DniError, Unavailable
from dni_driver.plugin import exchange
from dni_driver.plugin.crew import Crew, Finish

if TYPE_CHECKING:
    from types import FrameType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger(__name__)

GRACEFUL_SECONDS = 25
"""How long an ending worker works on the calls it has; a handler's deadline is 20 s."""

_STUCK_SECONDS = 2
_SILENT_SECONDS = 20.0
"""How long a caller may take to say the next byte; dockerd says all at once."""

OPENING_SECONDS = 20.0
"""How long a call waits for another that opens the app, which mends the kernel first: as long as for a handler."""

OpenApp = Callable[[], "AbstractContextManager[WSGIApplication]"]
"""Opens what the app rests on, gives the app, and closes it all at the end of the worker."""


def serve(
    open_app: OpenApp,
    listener: socket.socket | None,
    *,
    threads: int,
    scratch: Path,
    after_fork: Callable[[int], None],
) -> None:
    """Answer calls on a listening unix socket until SIGTERM. It does not return: SystemExit with a status.

    The socket's path is removed at the end. Without a socket, the one in LISTEN_FDS is used, and its path left.
    `open_app` is called in the worker, before its first call. `after_fork` is called there before that, with
    the pid of the parent. `scratch` is a directory, best in memory, for a nameless file of gunicorn's.
    """
    settings = {
        "bind": [] if listener is None else [f"fd://{listener.detach()}"],
        "workers": 1,
        "worker_class": _Worker,
        "threads": threads,
        "keepalive": 0,
        "timeout": 0,
        "graceful_timeout": GRACEFUL_SECONDS,
        "worker_tmp_dir": str(scratch),
        "control_socket_disable": True,
        "logger_class": _Logger,
        "pre_fork": lambda _arbiter, _worker: _share_memory(),
        "post_fork": lambda arbiter, _: _begin(after_fork, arbiter.pid),
    }
    _Application(_Deferred(open_app), settings).run()


def _share_memory() -> None:
    """Keep the garbage collector off what is loaded, so that the worker goes on sharing it with its parent."""
    gc.collect()
    gc.freeze()


def _begin(after_fork: Callable[[int], None], parent: int) -> None:
    """Have SIGTERM end a worker that has only begun: it has no call yet, and its master's handler ends nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    after_fork(parent)


class _Deferred:
    """An app that is opened by the worker; where that fails, every call tries again and is told why."""

    def __init__(self, open_app: OpenApp) -> None:
        self._open_app = open_app
        self._opened: WSGIApplication | None = None
        self._opening = threading.Lock()
        self._resources = ExitStack()

    def open(self) -> WSGIApplication:
        """Open the app where it is not open yet; raise DniError."""
        if self._opened is not None:
            return self._opened
        with holding(self._opening, OPENING_SECONDS, "dni is still starting on this host: try again in a moment"):
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> WSGIApplication:
        try:
            return self._resources.enter_context(self._open_app())
        except DniError:
            raise
        except Exception as error:
            log.exception("not opened")
            raise Unavailable(f"dni cannot start ({type(error).__name__}): its log says more") from error

    def close(self) -> None:
        self._resources.close()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            app = self.open()
        except DniError as error:
            return _refuse(error, start_response)
        return app(environ, start_response)


def _refuse(error: DniError, start_response: StartResponse) -> Iterable[bytes]:
    """Answer an error as dockerd reads it, whichever driver it asked."""
    log.error("cannot serve", error=str(error))
    text = " ".join(str(error).split())
    start_response("500 Internal Server Error", [("Content-Type", "application/json")])
    return [msgspec.json.encode({"Err": text, "Error": text})]


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's hooks around the app."""

    def __init__(self, app: _Deferred, settings: dict[str, Any]) -> None:
        self._app = app
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for key, value in self._settings.items():
            self.cfg.set(key, value)
        self.cfg.set("worker_exit", lambda _arbiter, _worker: self._app.close())

    def load(self) -> _Deferred:
        """Open the app in the worker, before it accepts its first call."""
        try:
            self._app.open()
        except DniError as error:
            log.error("cannot serve yet", error=str(error))  # noqa: TRY400 - the text says it
        return self._app


class _Worker(SyncWorker):  # type: ignore[misc]
    """A worker with a crew, and that ends in time also where its parent is no longer there to see to it.

    gunicorn's own threads hand each connection over twice: that costs as much as everything else about a call.
    """

    def run(self) -> None:
        (listener,) = self.sockets
        crew = Crew(listener, lambda connection: self._answer(listener, connection), self.cfg.threads)
        crew.start()
        while self.alive:
            select.select([self.PIPE[0]], [], [])
            os.read(self.PIPE[0], 1)
        crew.stop(GRACEFUL_SECONDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        signal.alarm(GRACEFUL_SECONDS + _STUCK_SECONDS)
        super().handle_exit(sig, frame)

    def _answer(self, listener: socket.socket, connection: socket.socket) -> Finish:
        """Answer a call in the short way where it is one of dockerd's, else in gunicorn's."""
        connection.settimeout(_SILENT_SECONDS)
        try:
            seen = connection.recv(exchange.LARGEST, socket.MSG_PEEK)
            environ = exchange.understood(seen)
            if environ is not None:
                connection.recv(len(seen))
                return partial(_send, connection, exchange.answered(self.wsgi, environ))
            self.handle(listener, connection, "")
        except OSError as error:
            log.debug("the caller has gone", error=str(error))
        except Exception:
            log.exception("not answered")
        return connection.close


def _send(connection: socket.socket, answer: bytes) -> None:
    with connection:
        try:
            connection.sendall(answer)
        except OSError as error:
            log.debug("the caller has gone", error=str(error))


class _Logger(Logger):  # type: ignore[misc]
    """gunicorn's lines among ours: what it is glad to tell is for debugging only."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.setLevel(logging.NOTSET)
        self.error_log.propagate = True

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Say in one line that a caller was silent for too long, which is nothing to look for here."""
        if isinstance(sys.exception(), TimeoutError):
            self.warning("a caller has said nothing, or taken nothing, for %g s", _SILENT_SECONDS)
        else:
            super().exception(msg, *args, **kwargs)

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        self.debug(msg, *args, **kwargs)
