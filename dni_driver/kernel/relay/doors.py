# SPDX-License-Identifier: Apache-2.0
"""A port that callers connect to."""

from __future__ import annotations

import errno
import math
import select
import socket
from collections.abc import Callable
from ipaddress import ip_address

import structlog

from dni_driver.core.published import Confined
from dni_driver.kernel.relay.datagrams import Caller
from dni_driver.kernel.relay.poll import Poll
from dni_driver.kernel.relay.streams import Stream, Way

log = structlog.get_logger(__name__)

_BACKLOG = 1024
_TURN = 64
"""Callers that are let in in one turn of the port."""
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


MOST_CONNECTIONS = 4096
"""Of all ports; a caller more is refused at once."""
_PAUSE_SECONDS = 1.0
"""How long a port lets nobody in after this host had no room for one more."""
_TELL_SECONDS = 60.0


class Porter:
    """Decides, for all ports, who comes in."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Let everybody in; `clock` gives seconds."""
        self.confined = Confined(frozenset(), ())
        self._clock = clock
        self._inside = 0
        self._paused: list[tuple[float, Door]] = []
        self._told = -math.inf

    def admits(self, caller: Caller) -> bool:
        """Tell whether a caller may come in: not from an internal network, which is kept to itself."""
        if not self.confined.bridges:
            return True
        address = ip_address(caller[0].partition("%")[0])
        if address.is_link_local:
            return _link(caller[3]) not in self.confined.bridges
        return all(address not in subnet for subnet in self.confined.subnets)

    def enter(self) -> bool:
        """Count one more; False where that is one too many."""
        self._inside += 1
        if self._inside > MOST_CONNECTIONS:
            self._tell(f"{MOST_CONNECTIONS} connections to published ports are carried: more are refused")
        return self._inside <= MOST_CONNECTIONS

    def leave(self) -> None:
        """Count one less."""
        self._inside -= 1

    def pause(self, door: Door) -> None:
        """Open a door again in a moment."""
        self._tell("this host has no room for one more connection to a published port: callers wait")
        self._paused.append((self._clock() + _PAUSE_SECONDS, door))

    def open_the_paused(self) -> float | None:
        """Open the doors that have waited long enough; answer when to come back, in seconds, None for never."""
        now = self._clock()
        due = [door for when, door in self._paused if when <= now]
        self._paused = [(when, door) for when, door in self._paused if when > now]
        for door in due:
            try:
                door.open()
            except OSError:
                self.pause(door)
        return min((when - now for when, _ in self._paused), default=None)

    def _tell(self, words: str) -> None:
        """Log something that may be so for every caller, once in a while."""
        if self._clock() - self._told >= _TELL_SECONDS:
            self._told = self._clock()
            log.warning(words)


class Door:
    """A port that callers connect to; it listens as long as it is there."""

    def __init__(self, socket_: socket.socket, way: Way, poll: Poll, porter: Porter) -> None:
        """Begin to listen."""
        self._socket, self._way, self._poll, self._porter = socket_, way, poll, porter
        self._streams: set[Stream] = set()
        self._is_closed = False
        socket_.settimeout(0)
        # Past connections that wait for their end; and those from here have it of this socket, so that they are in
        # nobody's way should this process die. Who listens is passed by nobody, with or without.
        socket_.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        socket_.listen(_BACKLOG)
        self.open()

    def open(self) -> None:
        """Let callers in, unless it is closed."""
        if not self._is_closed:
            self._poll.watch(self._socket.fileno(), select.EPOLLIN, self._let_in)

    def close(self) -> None:
        """Listen no longer, still holding the port, and break off what goes on."""
        self._is_closed = True
        self._poll.forget(self._socket.fileno())
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self._socket.shutdown(socket.SHUT_RDWR)
        for stream in list(self._streams):
            stream.abort()

    def _let_in(self, _: int) -> bool:
        for _ in range(_TURN):
            try:
                caller, address = self._socket.accept()
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._poll.forget(self._socket.fileno())
                    self._porter.pause(self)
                break
            self._begin(caller, address)
        return False

    def _begin(self, caller: socket.socket, address: Caller) -> None:
        stream = Stream(caller, self._way, self._poll, self._ended)
        self._streams.add(stream)
        has_room = self._porter.enter()
        try:
            if has_room and self._porter.admits(address):
                stream.begin()
            else:
                stream.abort()
        except OSError:
            stream.abort()

    def _ended(self, stream: Stream) -> None:
        self._streams.remove(stream)
        self._porter.leave()


def _link(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None
