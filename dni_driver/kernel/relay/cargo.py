# SPDX-License-Identifier: Apache-2.0
"""What is on its way from one socket to another: bytes, which stay in the kernel, or one message at a time."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from typing import Protocol

_PIPE_BYTES = 1 << 18
"""What one direction of one connection may have on its way, besides what its two sockets buffer."""
_MOST_SPARE = 32
"""Pipes that are kept for the next connection."""
_LARGEST_MESSAGE = 1 << 18
_HOW = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE


class Cargo(Protocol):
    """What one direction of a connection carries."""

    def load(self, source: socket.socket) -> bool:
        """Take what has come; False at its end. Raises BlockingIOError where nothing has, or there is no room."""

    def unload(self, sink: socket.socket) -> None:
        """Hand on what was taken, or some of it; raise BlockingIOError where that cannot be, or nothing is left."""

    def is_empty(self) -> bool:
        """Tell whether all that was taken was handed on."""

    def rest(self) -> None:
        """Give back what is only needed on the way."""

    def discard(self) -> None:
        """Throw away what was not handed on."""


class Pipes:
    """Pipes that wait for use: a connection has one only while something is on its way."""

    def __init__(self) -> None:
        """Begin without any."""
        self._spare: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int]:
        """Answer an empty pipe; raise OSError."""
        if self._spare:
            return self._spare.pop()
        made = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A user may have so much in pipes and no more; smaller ones do as well.
        with suppress(PermissionError):
            fcntl.fcntl(made[1], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return made

    def give_back(self, pipe: tuple[int, int]) -> None:
        """Take back an empty pipe."""
        if len(self._spare) < _MOST_SPARE:
            self._spare.append(pipe)
        else:
            shut(pipe)

    def close(self) -> None:
        """Close those that wait."""
        while self._spare:
            shut(self._spare.pop())


def shut(pipe: tuple[int, int]) -> None:
    """Close both ends of a pipe."""
    for end in pipe:
        os.close(end)


class Bytes:
    """Bytes in a pipe, moved by the kernel: they never come into this process."""

    def __init__(self, pipes: Pipes) -> None:
        """Begin with none."""
        self._pipes = pipes
        self._pipe: tuple[int, int] | None = None
        self._count = 0

    def load(self, source: socket.socket) -> bool:
        """Move what has come into the pipe."""
        if self._pipe is None:
            self._pipe = self._pipes.take()
        moved = os.splice(source.fileno(), self._pipe[1], _PIPE_BYTES, flags=_HOW)
        self._count += moved
        return moved > 0

    def unload(self, sink: socket.socket) -> None:
        """Move what is in the pipe on."""
        if self._pipe is None or not self._count:
            raise BlockingIOError
        # No more than there is: the kernel would hold back the last part, to be sent with what follows.
        self._count -= os.splice(self._pipe[0], sink.fileno(), self._count, flags=_HOW)

    def is_empty(self) -> bool:
        """Tell whether the pipe is."""
        return not self._count

    def rest(self) -> None:
        """Give the pipe back where it is empty."""
        if self._pipe is not None and not self._count:
            self._pipes.give_back(self._pipe)
            self._pipe = None

    def discard(self) -> None:
        """Close the pipe with what is in it."""
        self.rest()
        if self._pipe is not None:
            shut(self._pipe)
            self._pipe = None


class Message:
    """One message, handed on as it came: SCTP keeps them apart."""

    def __init__(self) -> None:
        """Begin with none."""
        self._text = b""

    def load(self, source: socket.socket) -> bool:
        """Take the next one."""
        if self._text:
            raise BlockingIOError
        self._text = source.recv(_LARGEST_MESSAGE)
        return bool(self._text)

    def unload(self, sink: socket.socket) -> None:
        """Hand it on."""
        if not self._text:
            raise BlockingIOError
        sink.send(self._text)
        self._text = b""

    def is_empty(self) -> bool:
        """Tell whether there is none."""
        return not self._text

    def rest(self) -> None:
        """Keep nothing that could be given back."""

    def discard(self) -> None:
        """Forget it."""
        self._text = b""
