# SPDX-License-Identifier: Apache-2.0
"""Datagrams that are carried over: each caller has a session, by which answers find the way back to it.

An answer comes from the address that was called: a host has several.
"""

from __future__ import annotations

import select
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address

from dni_driver.kernel.relay.poll import Poll
from dni_driver.kernel.relay.streams import Way

IDLE_SECONDS = 90.0
"""How long a session lasts without a word from either side."""
MOST_SESSIONS = 4096
"""Of all ports; for one more, the one that has been silent longest ends."""

_LARGEST = 1 << 16
_TURN = 64
"""Datagrams of one socket that are carried in its turn."""
_PACKET_INFO = struct.Struct("=16sI")
_SPACE = socket.CMSG_SPACE(_PACKET_INFO.size)

Caller = tuple[str, int, int, int]
"""As the socket module writes an IPv6 address: with port, flow and link."""
_Key = tuple[Caller, bytes, int]


class Sessions:
    """The sessions of all ports, the one silent longest first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with none; `clock` gives seconds."""
        self._clock = clock
        self._last: OrderedDict[Session, float] = OrderedDict()

    def note(self, session: Session) -> None:
        """Note that somebody has just said something; where that is one too many, another session ends."""
        self._last[session] = self._clock()
        self._last.move_to_end(session)
        if len(self._last) > MOST_SESSIONS:
            next(iter(self._last)).end()

    def forget(self, session: Session) -> None:
        """Forget a session that has ended."""
        self._last.pop(session, None)

    def end_the_idle(self) -> float | None:
        """End those that have been silent too long; answer in how many seconds to come back, None for never."""
        while self._last:
            session, last = next(iter(self._last.items()))
            left = last + IDLE_SECONDS - self._clock()
            if left > 0:
                return left
            session.end()
        return None

    def __len__(self) -> int:
        """Answer how many there are."""
        return len(self._last)


class Session:
    """One caller of one port; what the container says to it goes back."""

    def __init__(self, box: Mailbox, key: _Key, toward: socket.socket) -> None:
        """Take the socket that leads to the container."""
        self._box, self._key, self.toward = box, key, toward

    def answer(self, _: int) -> bool:
        """Carry answers back."""
        for _ in range(_TURN):
            try:
                text = self.toward.recv(_LARGEST)
            except BlockingIOError:
                break
            except OSError:
                # The container does not listen: the caller is told nothing, and may try again.
                continue
            self._box.send(text, self._key)
            self._box.sessions.note(self)
        return False

    def end(self) -> None:
        """End it; the next datagram of the caller begins another."""
        self._box.end(self, self._key)


class Mailbox:
    """A port that datagrams come to."""

    def __init__(
        self, socket_: socket.socket, way: Way, poll: Poll, sessions: Sessions, admits: Callable[[Caller], bool]
    ) -> None:
        """Begin to take them, from callers that are admitted."""
        self._socket, self._way, self._poll, self.sessions, self._admits = socket_, way, poll, sessions, admits
        self._open: dict[_Key, Session] = {}
        socket_.settimeout(0)
        socket_.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        socket_.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LARGEST * 4)
        poll.watch(socket_.fileno(), select.EPOLLIN, self._deliver)

    def close(self) -> None:
        """Take no more, and end all sessions."""
        self._poll.forget(self._socket.fileno())
        for session in list(self._open.values()):
            session.end()

    def send(self, text: bytes, key: _Key) -> None:
        """Answer a caller from the address that it called; what cannot be sent is lost, as datagrams are."""
        caller, called, link = key
        at = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PACKET_INFO.pack(called, link))]
        with suppress(OSError):
            self._socket.sendmsg([text], at, 0, caller)

    def end(self, session: Session, key: _Key) -> None:
        """End one session."""
        self._open.pop(key, None)
        self.sessions.forget(session)
        self._poll.forget(session.toward.fileno())
        session.toward.close()

    def _deliver(self, _: int) -> bool:
        for _ in range(_TURN):
            try:
                text, told, _, caller = self._socket.recvmsg(_LARGEST, _SPACE)
            except OSError:
                break
            if self._admits(caller):
                with suppress(OSError):
                    self._forward(text, _key(caller, told))
        return False

    def _forward(self, text: bytes, key: _Key) -> None:
        session = self._open.get(key) or self._begin(key)
        self.sessions.note(session)
        try:
            session.toward.send(text)
        except ConnectionRefusedError:
            # That was said of an earlier one, and kept this one back.
            session.toward.send(text)

    def _begin(self, key: _Key) -> Session:
        target = self._way.targets[0]
        family = socket.AF_INET if target.version == 4 else socket.AF_INET6  # noqa: PLR2004
        toward = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            toward.connect((str(target), self._way.port))
            session = Session(self, key, toward)
            self._poll.watch(toward.fileno(), select.EPOLLIN, session.answer)
        except OSError:
            toward.close()
            raise
        self._open[key] = session
        return session


def _key(caller: Caller, told: list[tuple[int, int, bytes]]) -> _Key:
    """Answer whom a session is for: a caller, and the address and, where that says which, the link that it called."""
    called, link = _PACKET_INFO.unpack(told[0][2])
    return caller, called, link if IPv6Address(called).is_link_local else 0
