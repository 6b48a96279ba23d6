# SPDX-License-Identifier: Apache-2.0
"""Threads that take turns at a listening socket."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from dni_driver.plugin import crew as crew_module
from dni_driver.plugin.crew import Answer, Crew, Finish
from tests.scratch import fast_directory

PATIENCE = 60.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with fast_directory() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/door")
        listener.listen(64)
        yield listener


def knock(listener: socket.socket) -> socket.socket:
    """Connect, and wait for nothing."""
    caller = socket.socket(socket.AF_UNIX)
    caller.settimeout(PATIENCE)
    caller.connect(listener.getsockname())
    return caller


def names_of_who_answers(listener: socket.socket, calls: int) -> set[bytes]:
    """Make calls one after the other; each is answered with the name of the thread that has it."""
    found = set()
    for _ in range(calls):
        with knock(listener) as caller:
            found.add(caller.recv(100))
    return found


def tell_name(connection: socket.socket) -> Finish:
    return partial(send, connection, threading.current_thread().name.encode())


def send(connection: socket.socket, answer: bytes) -> None:
    with connection:
        connection.sendall(answer)


class Held:
    """Holds connections until they are let go."""

    def __init__(self) -> None:
        """Hold none yet."""
        self.go = threading.Event()
        self.taken = threading.Semaphore(0)
        self.done = 0

    def __call__(self, connection: socket.socket) -> Finish:
        """Answer when let go."""
        self.taken.release()
        self.go.wait(PATIENCE)
        self.done += 1
        return partial(send, connection, b"done")


@contextmanager
def started(listener: socket.socket, answer: Answer, most: int) -> Iterator[Crew]:
    crew = Crew(listener, answer, most)
    crew.start()
    try:
        yield crew
    finally:
        crew.stop(PATIENCE)


def test_calls_one_after_the_other_need_one_thread_and_another_that_waits(listener: socket.socket) -> None:
    with started(listener, tell_name, 32):
        assert len(names_of_who_answers(listener, 500)) <= 2


def test_calls_at_one_time_are_answered_at_one_time_up_to_the_most(listener: socket.socket) -> None:
    held = Held()
    with started(listener, held, 3):
        callers = [knock(listener) for _ in range(4)]
        assert [held.taken.acquire(timeout=PATIENCE) for _ in range(3)] == [True] * 3
        assert not held.taken.acquire(timeout=0.1)
        held.go.set()
        assert [caller.recv(4) for caller in callers] == [b"done"] * 4
    for caller in callers:
        caller.close()


class Poor(socket.socket):
    """A socket that can take no connection at first, as in a process that may open no more files."""

    def __init__(self) -> None:
        """Begin poor."""
        super().__init__(socket.AF_UNIX)
        self.refusals = 2

    def accept(self) -> tuple[socket.socket, object]:
        """Refuse, then take."""
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def test_a_call_that_cannot_be_taken_is_taken_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "_PAUSE_SECONDS", 0.01)
    with fast_directory() as directory, Poor() as listener:
        listener.bind(f"{directory}/door")
        listener.listen(64)
        with started(listener, tell_name, 4), knock(listener) as caller:
            assert caller.recv(100) == b"dni-call-0"
        assert listener.refusals == 0


def test_where_no_thread_can_be_made_calls_are_answered_one_after_the_other(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(listener, tell_name, 4):
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert names_of_who_answers(listener, 3) == {b"dni-call-0"}


def test_a_thread_for_which_no_file_could_be_opened_is_made_later(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that died unseen would count as waiting for ever: there would never be another."""
    held = Held()
    with started(listener, held, 3), monkeypatch.context() as poor:
        poor.setattr(select, "epoll", refuse_to_open)
        callers = [knock(listener)]
        assert held.taken.acquire(timeout=PATIENCE)
        held.go.set()
        assert callers[0].recv(4) == b"done"
        held.go.clear()
        poor.undo()
        callers += [knock(listener), knock(listener)]
        assert [held.taken.acquire(timeout=PATIENCE / 10) for _ in range(2)] == [True] * 2
        held.go.set()
        assert [caller.recv(4) for caller in callers[1:]] == [b"done"] * 2
    for caller in callers:
        caller.close()


def refuse_to_open() -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_the_end_waits_for_calls_that_were_taken_and_takes_no_more(listener: socket.socket) -> None:
    held = Held()
    with started(listener, held, 4) as crew, knock(listener):
        assert held.taken.acquire(timeout=PATIENCE)
        ender = threading.Thread(target=crew.stop, args=(PATIENCE,))
        ender.start()
        ender.join(0.2)
        assert ender.is_alive()
        with knock(listener):
            held.go.set()
            ender.join(PATIENCE)
            assert held.done == 1


def test_the_end_does_not_wait_for_ever(listener: socket.socket) -> None:
    held = Held()
    with started(listener, held, 4) as crew, knock(listener) as caller:
        assert held.taken.acquire(timeout=PATIENCE)
        crew.stop(0.1)
        assert held.done == 0
        held.go.set()
        assert caller.recv(4) == b"done"
