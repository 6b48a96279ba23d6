# SPDX-License-Identifier: Apache-2.0
"""A connection that is carried over: what a caller and a container tell each other, and how each ends it."""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

import msgspec

from dni_driver.core.overlays import Address
from dni_driver.kernel.relay.cargo import Cargo
from dni_driver.kernel.relay.poll import Poll

_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_ROUNDS = 8
"""How much one direction carries in its turn; then others have theirs."""
_AT_ONCE = struct.pack("ii", 1, 0)
_ATTEMPTS = 3
"""How often a container is asked before it counts as gone: some 15 seconds."""
_SILENT_SECONDS, _PROBE_SECONDS, _PROBES = 60, 15, 4
"""After so long without a word either side is asked whether it is still there, so often, so many times."""


class Way(msgspec.Struct, frozen=True):
    """How callers of one port get on: to the first of these addresses that answers, at a port of the container."""

    targets: Sequence[IPv4Address | IPv6Address]
    port: int
    protocol: int
    make_cargo: Callable[[], Cargo]


class _Flow:
    """One direction of a connection. What was not handed on yet holds back whoever sends more."""

    def __init__(self, source: socket.socket, sink: socket.socket, cargo: Cargo) -> None:
        self._source, self._sink, self._cargo = source, sink, cargo
        self._is_over = False
        self.is_done = False

    def carry(self) -> bool:
        """Carry on; tell whether there is more to do in the next turn. Raises OSError where one side broke off."""
        if any(not self._moves() for _ in range(_ROUNDS)):
            self._pass_on_the_end()
            self._cargo.rest()
            return False
        return True

    def _moves(self) -> bool:
        has_loaded = self._loads()
        return self._unloads() or has_loaded

    def _loads(self) -> bool:
        if self._is_over:
            return False
        try:
            self._is_over = not self._cargo.load(self._source)
        except BlockingIOError:
            return False
        return True

    def _unloads(self) -> bool:
        try:
            self._cargo.unload(self._sink)
        except BlockingIOError:
            return False
        return True

    def _pass_on_the_end(self) -> None:
        """Tell the other side that nothing more will come; it may have more to say itself."""
        if self._is_over and self._cargo.is_empty() and not self.is_done:
            self._sink.shutdown(socket.SHUT_WR)
            self.is_done = True

    def close(self) -> None:
        self._cargo.discard()


class Stream:
    """A caller's connection and the one to the container."""

    def __init__(self, caller: socket.socket, way: Way, poll: Poll, ended: Callable[[Stream], None]) -> None:
        """Take a caller; `ended` is told when all is over."""
        self._caller, self._way, self._poll, self._ended = caller, way, poll, ended
        self._left = list(way.targets)
        self._callee: socket.socket | None = None
        self._flows: tuple[_Flow, ...] = ()

    def begin(self) -> None:
        """Call the first address of the container; raise OSError."""
        make_lasting(self._caller, self._way.protocol)
        self._poll.watch(self._caller.fileno(), _EDGES, self._caller_has_news)
        self._call_next()

    def abort(self) -> None:
        """Break off on both sides, so that both know."""
        for side in self._sides():
            with suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._close()

    def _caller_has_news(self, mask: int) -> bool:
        if mask & select.EPOLLERR:
            self.abort()
            return False
        return self._carry() if self._flows else False

    def _callee_has_news(self, mask: int) -> bool:
        if not self._flows:
            return self._is_connected(mask)
        if mask & select.EPOLLERR:
            self.abort()
            return False
        return self._carry()

    def _call_next(self) -> None:
        """Call the next address; where there is none, or no room on this host, it is over for the caller too."""
        with suppress(OSError):
            while self._left:
                self._callee = _called(self._left.pop(0), self._way)
                if self._callee is not None:
                    self._poll.watch(self._callee.fileno(), _EDGES, self._callee_has_news)
                    return
        self.abort()

    def _is_connected(self, mask: int) -> bool:
        """Go on where the container answers, to its next address where it refuses."""
        if self._callee is None or not mask & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
            return False
        if self._callee.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._poll.forget(self._callee.fileno())
            self._callee.close()
            self._callee = None
            self._call_next()
            return False
        self._flows = (
            _Flow(self._caller, self._callee, self._way.make_cargo()),
            _Flow(self._callee, self._caller, self._way.make_cargo()),
        )
        return self._carry()

    def _carry(self) -> bool:
        try:
            has_more = [flow.carry() for flow in self._flows]
        except OSError:
            self.abort()
            return False
        if all(flow.is_done for flow in self._flows):
            self._close()
            return False
        return any(has_more)

    def _sides(self) -> list[socket.socket]:
        return [self._caller, *([self._callee] if self._callee else [])]

    def _close(self) -> None:
        for flow in self._flows:
            flow.close()
        for side in self._sides():
            self._poll.forget(side.fileno())
            side.close()
        self._ended(self)


def _called(target: Address, way: Way) -> socket.socket | None:
    """Answer a socket that calls a container; None where there is no way to it."""
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6  # noqa: PLR2004
    calling = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, way.protocol)
    make_lasting(calling, way.protocol)
    if calling.connect_ex((str(target), way.port)) in (0, errno.EINPROGRESS):
        return calling
    calling.close()
    return None


def make_lasting(side: socket.socket, protocol: int) -> None:
    """Have a connection hand on what it has at once, and notice when nobody is there any more."""
    side.settimeout(0)
    if protocol == socket.IPPROTO_TCP:
        side.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_NODELAY, 1),
            (socket.TCP_SYNCNT, _ATTEMPTS),
            (socket.TCP_KEEPIDLE, _SILENT_SECONDS),
            (socket.TCP_KEEPINTVL, _PROBE_SECONDS),
            (socket.TCP_KEEPCNT, _PROBES),
        ):
            side.setsockopt(socket.IPPROTO_TCP, option, value)
