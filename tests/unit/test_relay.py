# SPDX-License-Identifier: Apache-2.0
"""Carrying callers over, as far as it takes no firewall: limits, silence, and messages that stay apart."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from itertools import count, islice

import msgspec
import pytest

from dni_driver.core.ports import HostPort, Protocol, Relayed
from dni_driver.core.published import Confined
from dni_driver.kernel.ports.holds import Holds
from dni_driver.kernel.relay import datagrams, doors
from dni_driver.kernel.relay.cargo import Message, Pipes
from dni_driver.kernel.relay.poll import Poll
from dni_driver.kernel.relay.relay import Relay
from dni_driver.kernel.relay.streams import Way
from tests.fakes import FakeClock

LOOPBACK6, LOOPBACK = IPv6Address("::1"), IPv4Address("127.0.0.1")
NOBODY = Confined(frozenset(), ())
PATIENCE = 5.0


class Ground:
    """A relay from a port at ::1 to one at 127.0.0.1, which stands for a container."""

    def __init__(self, relay: Relay, clock: FakeClock, kind: int) -> None:
        """Begin; nobody listens at the far end for TCP until `answering`."""
        self.relay, self.clock = relay, clock
        self.held = socket.socket(socket.AF_INET6, kind)
        self.held.bind(("::1", 0))
        self.container = socket.socket(socket.AF_INET, kind)
        self.container.bind(("127.0.0.1", 0))
        self.container.settimeout(PATIENCE)
        protocol = Protocol.TCP if kind == socket.SOCK_STREAM else Protocol.UDP
        self.port = self.held.getsockname()[1]
        self.relayed = Relayed(
            at=HostPort(protocol, LOOPBACK6, self.port), targets=(LOOPBACK,), port=self.container.getsockname()[1]
        )
        self.settle()

    def settle(self, confined: Confined = NOBODY) -> None:
        """Have it carry."""
        self.relay.settle({self.relayed.at: (self.held, self.relayed)}, confined)

    def caller(self) -> socket.socket:
        """Answer a socket that has called, or is about to."""
        with ExitStack() as undo:
            calling = undo.enter_context(socket.socket(socket.AF_INET6, self.held.type))
            calling.settimeout(PATIENCE)
            calling.connect(("::1", self.port))
            undo.pop_all()
        return calling

    def close(self) -> None:
        """End it, the relay first: the sockets are lent to it."""
        self.relay.close()
        self.held.close()
        self.container.close()


@pytest.fixture
def lay() -> Iterator[Callable[[int], Ground]]:
    """Lay a relay for sockets of a kind."""
    with ExitStack() as stack:

        def laid(kind: int) -> Ground:
            clock = FakeClock()
            return stack.enter_context(closing(Ground(Relay(clock), clock, kind)))

        yield laid


def test_nothing_runs_as_long_as_nobody_has_to_be_carried() -> None:
    before = threading.active_count()
    relay = Relay()
    relay.settle({}, NOBODY)
    assert threading.active_count() == before
    relay.close()


def test_a_thread_that_this_host_has_no_room_for_is_tried_again(
    lay: Callable[[int], Ground], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ground = lay(socket.SOCK_STREAM)
    ground.container.listen()
    with socket.socket(socket.AF_INET6) as held, closing(Relay()) as relay:
        held.bind(("::1", 0))
        at = HostPort(Protocol.TCP, LOOPBACK6, held.getsockname()[1])
        served = {at: (held, msgspec.structs.replace(ground.relayed, at=at))}
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError):
                relay.settle(served, NOBODY)
        relay.settle(served, NOBODY)
        with socket.create_connection(("::1", at.port)) as caller, ground.container.accept()[0] as inside:
            caller.sendall(b"let in")
            assert inside.recv(64) == b"let in"


def test_one_connection_too_many_is_refused_and_the_others_go_on(
    lay: Callable[[int], Ground], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "MOST_CONNECTIONS", 2)
    ground = lay(socket.SOCK_STREAM)
    ground.container.listen()
    with ExitStack() as stack:
        first, _ = (stack.enter_context(ground.caller()) for _ in range(2))
        inside = [stack.enter_context(ground.container.accept()[0]) for _ in range(2)]
        with pytest.raises(ConnectionError):
            _get_through(ground)
        first.sendall(b"still here")
        assert inside[0].recv(64) == b"still here"
        first.close()
        assert inside[0].recv(1) == b""
        inside[0].close()
        again = stack.enter_context(ground.caller())
        fourth = stack.enter_context(ground.container.accept()[0])
        again.sendall(b"let in")
        assert fourth.recv(64) == b"let in"


@contextmanager
def room_for(descriptors: int) -> Iterator[None]:
    """Have this process find room for so many more descriptors, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = (number for number in count() if not _is_open(number))
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(islice(free, descriptors, None)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_a_caller_for_whom_no_connection_to_the_container_can_be_made_does_not_wait(
    lay: Callable[[int], Ground],
) -> None:
    ground = lay(socket.SOCK_STREAM)
    ground.container.listen()
    with ExitStack() as stack:
        calling = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
        calling.settimeout(PATIENCE)
        with room_for(1):
            assert is_broken_off(calling, ground.port)
        stack.enter_context(ground.caller()).sendall(b"let in")
        inside, _ = ground.container.accept()
        with inside:
            assert inside.recv(64) == b"let in"


def test_callers_wait_while_this_host_has_no_room_and_are_let_in_afterwards(lay: Callable[[int], Ground]) -> None:
    ground = lay(socket.SOCK_STREAM)
    ground.container.listen()
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as calling:
        calling.settimeout(PATIENCE)
        with room_for(0):
            calling.connect(("::1", ground.port))
            calling.sendall(b"in the end")
            assert not select.select([ground.container], [], [], 0.5)[0]
        ground.clock.pass_by(1.0)
        inside, _ = ground.container.accept()
        with inside:
            inside.settimeout(PATIENCE)
            assert inside.recv(64) == b"in the end"


def test_what_was_said_before_the_end_arrives_however_slowly_it_is_heard(lay: Callable[[int], Ground]) -> None:
    ground = lay(socket.SOCK_STREAM)
    ground.container.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    ground.container.listen()
    with ground.caller() as calling:
        inside, _ = ground.container.accept()
        with inside:
            calling.settimeout(0.1)
            sent = 0
            with suppress(TimeoutError):
                while True:
                    sent += calling.send(bytes(1 << 16))
            calling.shutdown(socket.SHUT_WR)
            inside.settimeout(PATIENCE)
            heard = 0
            while text := inside.recv(1 << 16):
                heard += len(text)
                time.sleep(0.0001)
            assert heard == sent


def test_more_ports_are_held_than_this_process_began_with_room_for() -> None:
    with closing(Holds()) as holds, room_for(0):
        assert holds.take(HostPort(Protocol.TCP, LOOPBACK, 0))


def test_a_port_that_cannot_be_opened_again_yet_is_tried_again() -> None:
    class Stuck(doors.Door):
        """Cannot be opened at first."""

        def __init__(self) -> None:
            self.tries = 0

        def open(self) -> None:
            self.tries += 1
            if self.tries == 1:
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    clock, door = FakeClock(), Stuck()
    porter = doors.Porter(clock)
    porter.pause(door)
    clock.pass_by(1.0)
    assert porter.open_the_paused() == 1.0
    clock.pass_by(1.0)
    assert porter.open_the_paused() is None
    assert door.tries == 2


def is_broken_off(calling: socket.socket, port: int) -> bool:
    """Call; tell whether that ends without a word."""
    try:
        calling.connect(("::1", port))
        return calling.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_session_that_is_silent_ends_and_the_caller_begins_another() -> None:
    clock, poll = FakeClock(), Poll()
    sessions = datagrams.Sessions(clock)
    with ExitStack() as stack:
        stack.callback(poll.close)
        held, caller = (stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) for _ in range(2))
        held.bind(("::1", 0))
        container = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        container.bind(("127.0.0.1", 0))
        way = Way((LOOPBACK,), container.getsockname()[1], socket.IPPROTO_UDP, Message)
        box = datagrams.Mailbox(held, way, poll, sessions, lambda _: True)
        stack.callback(box.close)

        def said() -> int:
            caller.sendto(b"x", held.getsockname())
            for happened in poll.wait(PATIENCE):
                poll.handle(*happened)
            port: int = container.recvfrom(64)[1][1]
            return port

        first = said()
        assert sessions.end_the_idle() == datagrams.IDLE_SECONDS
        clock.pass_by(datagrams.IDLE_SECONDS - 1)
        assert said() == first, "as long as somebody says something"
        clock.pass_by(datagrams.IDLE_SECONDS - 1)
        container.sendto(b"y", ("127.0.0.1", first))
        for happened in poll.wait(PATIENCE):
            poll.handle(*happened)
        assert sessions.end_the_idle() == datagrams.IDLE_SECONDS, "be it the container alone"
        clock.pass_by(datagrams.IDLE_SECONDS - 1)
        assert sessions.end_the_idle() == 1
        clock.pass_by(1)
        assert sessions.end_the_idle() is None
        assert len(sessions) == 0
        assert said() != first


def test_of_too_many_sessions_the_one_silent_longest_ends(
    lay: Callable[[int], Ground], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "MOST_SESSIONS", 2)
    ground = lay(socket.SOCK_DGRAM)
    with ExitStack() as stack:
        callers = [stack.enter_context(ground.caller()) for _ in range(3)]
        ways = []
        for caller in callers:
            caller.send(b"x")
            ways.append(ground.container.recvfrom(64)[1])
        for way in ways:
            ground.container.sendto(b"answer", way)
        assert [caller.recv(64) for caller in callers[1:]] == [b"answer", b"answer"]
        callers[0].settimeout(0.2)
        with pytest.raises(TimeoutError):
            callers[0].recv(64)


@pytest.mark.parametrize(
    ("kind", "error"), [(socket.SOCK_STREAM, ConnectionError), (socket.SOCK_DGRAM, TimeoutError)]
)
def test_who_is_confined_to_a_network_is_not_carried(
    lay: Callable[[int], Ground], kind: int, error: type[OSError]
) -> None:
    ground = lay(kind)
    if kind == socket.SOCK_STREAM:
        ground.container.listen()
    ground.settle(Confined(frozenset({"d-shut"}), (IPv6Network("::1/128"),)))
    ground.container.settimeout(0.2)
    with pytest.raises(error):
        _get_through(ground)


def _get_through(ground: Ground) -> None:
    with ground.caller() as caller:
        caller.send(b"x")
        waiting = caller if caller.type == socket.SOCK_STREAM else ground.container
        waiting.recv(1)


def test_a_port_that_is_settled_anew_as_it_was_goes_on(lay: Callable[[int], Ground]) -> None:
    ground = lay(socket.SOCK_STREAM)
    ground.container.listen()
    with ground.caller() as caller, ground.container.accept()[0] as inside:
        ground.settle()
        caller.sendall(b"x")
        assert inside.recv(1) == b"x"
        ground.relay.stop([ground.relayed.at])
        with pytest.raises(ConnectionResetError):
            caller.recv(1)


def test_messages_stay_apart_and_wait_for_room() -> None:
    """As SCTP has them; this stands for its sockets, which few kernels have."""
    with ExitStack() as stack:
        kind = socket.SOCK_SEQPACKET
        said, source = map(stack.enter_context, socket.socketpair(socket.AF_UNIX, kind))
        sink, heard = map(stack.enter_context, socket.socketpair(socket.AF_UNIX, kind))
        for end in (source, sink):
            end.settimeout(0)
        said.send(b"one")
        said.send(b"two, which is longer")
        message = Message()
        for expected in (b"one", b"two, which is longer"):
            assert message.load(source)
            with pytest.raises(BlockingIOError):
                message.load(source)
            message.unload(sink)
            assert message.is_empty()
            assert heard.recv(64) == expected
        with pytest.raises(BlockingIOError):
            message.load(source)
        said.close()
        assert not message.load(source)


def test_a_pipe_that_is_given_back_is_the_next_one_taken() -> None:
    pipes = Pipes()
    first = pipes.take()
    pipes.give_back(first)
    assert pipes.take() == first
    pipes.give_back(first)
    pipes.close()
