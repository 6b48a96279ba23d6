# SPDX-License-Identifier: Apache-2.0
"""The one thread that carries callers over, for all ports: it sleeps until somebody calls.

TCP stays in the kernel (splice); a connection costs two sockets, and a pipe while something is on its way.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial

import structlog

from dni_driver.core.ports import HostPort, Protocol, Relayed
from dni_driver.core.published import Confined
from dni_driver.kernel import descriptors
from dni_driver.kernel.relay.cargo import Bytes, Message, Pipes
from dni_driver.kernel.relay.datagrams import Mailbox, Sessions
from dni_driver.kernel.relay.doors import Door, Porter
from dni_driver.kernel.relay.poll import Poll
from dni_driver.kernel.relay.streams import Way

log = structlog.get_logger(__name__)

_NUMBERS = {Protocol.TCP: socket.IPPROTO_TCP, Protocol.UDP: socket.IPPROTO_UDP, Protocol.SCTP: socket.IPPROTO_SCTP}

Places = Mapping[HostPort, tuple[socket.socket, Relayed]]
"""Ports with the sockets that hold them, and where they lead."""


class Relay:
    """Carries callers of the ports that it is given, by one thread, begun with the first of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no port; `clock` gives seconds."""
        self._lock = threading.Lock()
        self._gate = threading.Lock()
        self._clock = clock
        self._places: dict[HostPort, tuple[socket.socket, Relayed]] = {}
        self._served: dict[HostPort, Door | Mailbox] = {}
        self._porter = Porter(clock)
        self._thread: threading.Thread | None = None

    def settle(self, places: Places, confined: Confined) -> None:
        """Carry callers of these ports and no others; those who are confined are refused.

        What leads where it did goes on. The sockets stay their owner's, who says `stop` before closing them.
        """
        with self._gate, self._lock:
            self._porter.confined = confined
            self._close([at for at, place in self._places.items() if places.get(at) != place])
            for at, place in places.items():
                if at not in self._places:
                    self._serve(at, *place)

    def stop(self, ports: Iterable[HostPort]) -> None:
        """Carry nobody to these ports any more, and break off what goes on there."""
        with self._gate, self._lock:
            self._close(ports)

    def close(self) -> None:
        """Carry nobody any more, and end the thread."""
        with self._gate, self._lock:
            self._close(list(self._places))
            thread, self._thread = self._thread, None
            if thread is None:
                return
            os.eventfd_write(self._wake, 1)
        thread.join()
        self._pipes.close()
        self._poll.close()
        os.close(self._wake)

    def _serve(self, at: HostPort, held: socket.socket, relayed: Relayed) -> None:
        self._begin()
        way = Way(
            relayed.targets,
            relayed.port,
            _NUMBERS[at.protocol],
            partial(Bytes, self._pipes) if at.protocol is Protocol.TCP else Message,
        )
        try:
            if at.protocol is Protocol.UDP:
                self._served[at] = Mailbox(held, way, self._poll, self._sessions, self._porter.admits)
            else:
                self._served[at] = Door(held, way, self._poll, self._porter)
        except OSError as error:
            log.warning("callers of a port are not carried to its container", port=str(at), error=str(error))
            return
        self._places[at] = (held, relayed)

    def _close(self, ports: Iterable[HostPort]) -> None:
        for at in ports:
            self._places.pop(at, None)
            served = self._served.pop(at, None)
            if served is not None:
                served.close()

    def _begin(self) -> None:
        """Begin the thread where it does not run."""
        if self._thread is not None:
            return
        descriptors.allow_all()
        with ExitStack() as undo:
            self._poll, self._pipes, self._sessions = Poll(), Pipes(), Sessions(self._clock)
            undo.callback(self._poll.close)
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, self._wake)
            self._poll.watch(self._wake, select.EPOLLIN, lambda _: False)
            thread = threading.Thread(target=self._run, name="relay", daemon=True)
            thread.start()
            undo.pop_all()
        self._thread = thread

    def _run(self) -> None:
        seconds: float | None = None
        while True:
            found = self._poll.wait(seconds)
            for descriptor, mask in found:
                self._let_others_first()
                with self._lock:
                    self._handle(descriptor, mask)
            with self._lock:
                if self._thread is not threading.current_thread():
                    return
                seconds = self._look_around()

    def _let_others_first(self) -> None:
        """Wait for who stands at the gate: a lock that is let go and taken again goes to nobody else in between."""
        with self._gate:
            pass

    def _handle(self, descriptor: int, mask: int) -> None:
        try:
            self._poll.handle(descriptor, mask)
        except Exception:
            # One caller must not end all others.
            log.exception("a caller is left alone")
            self._poll.forget(descriptor)

    def _look_around(self) -> float | None:
        """Do what is due; answer in how many seconds something will be, None where nothing will."""
        due = [self._porter.open_the_paused(), self._sessions.end_the_idle()]
        return min((seconds for seconds in due if seconds is not None), default=None)
