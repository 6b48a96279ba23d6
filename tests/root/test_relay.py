# SPDX-License-Identifier: Apache-2.0
"""Callers of published ports that the kernel cannot lead to the container: by `::1`, and by IPv6 to one of IPv4."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from dni_driver.core.ports import Protocol
from tests.root import docker
from tests.root.ground import Namespace
from tests.root.lane import (
    GATEWAY4,
    HOST6,
    LARGE,
    Lane,
    dial,
    echo,
    hear,
    iter_of,
    laid,
    link_local,
    received,
    say_much,
    serving,
)
from tests.root.packets import Server, call, is_cut_off
from tests.root.town import Container

pytestmark = pytest.mark.root


CALLERS = 200


@pytest.fixture(scope="module")
def among_dockers_rules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    """Give a host where FORWARD drops and bridged frames go through it."""
    with laid(tmp_path_factory.mktemp("run")) as lane, docker.docker_on(lane.host):
        yield lane


@pytest.fixture(scope="module")
def without_docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    """Give one where nothing of Docker is."""
    with laid(tmp_path_factory.mktemp("run")) as lane:
        yield lane


@pytest.fixture(params=["among_dockers_rules", "without_docker"])
def lane(request: pytest.FixtureRequest) -> Iterator[Lane]:
    """Give either, where nothing is published."""
    lane: Lane = request.getfixturevalue(request.param)
    yield lane
    lane.withdraw()


@pytest.fixture
def quiet(among_dockers_rules: Lane) -> Iterator[Lane]:
    """Give one of them, for what has nothing to do with the firewall."""
    yield among_dockers_rules
    among_dockers_rules.withdraw()


# -- who is carried


def test_ipv6_loopback_gets_to_containers_of_either_kind(lane: Lane) -> None:
    lane.publish(lane.four, "::")
    lane.publish(lane.dual, "::", 8081)
    lane.publish(lane.four, "::1", 8082)
    lane.publish(lane.dual, "::1", 8083)
    assert call(lane.host, "::1", 8080) == call(lane.host, "::1", 8082) == GATEWAY4
    assert call(lane.host, "::1", 8081) == call(lane.host, "::1", 8083) == "fd01:b::8000:0:1"


def test_ipv6_gets_to_a_container_of_ipv4_from_everywhere_and_to_others_as_before(lane: Lane) -> None:
    lane.publish(lane.four, "::")
    lane.publish(lane.dual, "::", 8081)
    lane.publish(lane.four, HOST6, 8082)
    for caller in (lane.host, lane.outside, lane.dual.sandbox):
        assert call(caller, HOST6, 8080) == GATEWAY4
        assert call(caller, HOST6, 8082) == GATEWAY4
    assert call(lane.outside, HOST6, 8081) == "fd00:5::2", "the kernel leads there, and the caller is seen"
    assert is_cut_off(lane.outside, "fd01:b::8000:0:1", 8082), "published at one address alone"


def test_link_local_addresses_of_the_host_are_callers_too(quiet: Lane) -> None:
    quiet.publish(quiet.dual, "::", 8081)
    assert call(quiet.outside, f"{link_local(quiet.host, 'eth0')}%eth0", 8081) == "fd01:b::8000:0:1"


def test_what_is_published_at_loopback_is_the_hosts_alone(lane: Lane) -> None:
    lane.publish(lane.four, "::1")
    for caller in (lane.outside, lane.dual.sandbox):
        assert is_cut_off(caller, HOST6, 8080)
    lane.dual.sandbox.sh("ip addr del ::1/128 dev lo", "ip -6 route add ::1/128 via fd01:b::8000:0:1")
    assert is_cut_off(lane.dual.sandbox, "::1", 8080)
    lane.dual.sandbox.sh("ip -6 route del ::1/128 via fd01:b::8000:0:1", "ip addr add ::1/128 dev lo")


def test_a_container_of_an_internal_network_gets_to_no_published_port(lane: Lane) -> None:
    lane.publish(lane.four, "::")
    assert is_cut_off(lane.shut.sandbox, "fd01:f::8000:0:1", 8080)
    assert is_cut_off(lane.shut.sandbox, f"{link_local(lane.host, 'd-shut')}%eth0", 8080)
    assert call(lane.host, "::1", 8080) == GATEWAY4


def test_a_container_that_serves_ipv4_alone_is_found_by_its_other_address(quiet: Lane) -> None:
    with serving(quiet.dual, 9000, echo):
        quiet.publish(quiet.dual, "::", to=9000)
        with dial(quiet.host, "::1") as caller:
            caller.sendall(b"hello")
            assert caller.recv(64) == b"hello"


# -- what happens on a connection


def test_a_container_that_does_not_listen_breaks_off_at_once(quiet: Lane) -> None:
    quiet.publish(quiet.four, "::", to=9)
    with pytest.raises(ConnectionResetError):
        hear(quiet.host)


def test_one_side_may_end_before_the_other(quiet: Lane) -> None:
    def answer_at_the_end(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"got " + received(connection))

    with serving(quiet.four, 9000, answer_at_the_end):
        quiet.publish(quiet.four, "::", to=9000)
        with dial(quiet.host, "::1") as caller:
            caller.sendall(b"all of it")
            caller.shutdown(socket.SHUT_WR)
            assert received(caller) == b"got all of it"


def test_the_container_may_end_first_and_go_on_listening(quiet: Lane) -> None:
    heard: list[bytes] = []

    def end_first(connection: socket.socket) -> None:
        with connection:
            connection.shutdown(socket.SHUT_WR)
            heard.append(received(connection))

    with serving(quiet.four, 9000, end_first):
        quiet.publish(quiet.four, "::", to=9000)
        with dial(quiet.host, "::1") as caller:
            assert caller.recv(1) == b""
            caller.sendall(b"still here")
    assert heard == [b"still here"]


def test_a_side_that_breaks_off_breaks_off_the_other(quiet: Lane) -> None:
    broken = threading.Event()

    def wait_for_the_break(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
            broken.set()

    with serving(quiet.four, 9000, wait_for_the_break):
        quiet.publish(quiet.four, "::", to=9000)
        caller = dial(quiet.host, "::1")
        assert caller.recv(1) == b"x"
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        caller.close()
        assert broken.wait(5)


def test_who_reads_slowly_holds_back_who_sends(quiet: Lane) -> None:
    reading, heard = threading.Event(), hashlib.sha256()

    def read_late(connection: socket.socket) -> None:
        with connection:
            reading.wait(30)
            heard.update(received(connection))

    said = hashlib.sha256()
    with serving(quiet.four, 9000, read_late):
        quiet.publish(quiet.four, "::", to=9000)
        with dial(quiet.host, "::1") as caller:
            caller.settimeout(0.3)
            with pytest.raises(TimeoutError):
                say_much(caller, said)
            reading.set()
    assert heard.digest() == said.digest(), "and nothing is lost"


def test_what_is_large_comes_whole_both_ways(quiet: Lane) -> None:
    text = hashlib.shake_256(b"large").digest(LARGE)
    with serving(quiet.four, 9000, echo):
        quiet.publish(quiet.four, "::", to=9000)
        with dial(quiet.outside, HOST6) as caller:
            sending = threading.Thread(target=caller.sendall, args=(text,))
            sending.start()
            back = b"".join(iter_of(caller, LARGE))
            sending.join()
    assert back == text


def test_two_hundred_callers_at_once(quiet: Lane) -> None:
    with serving(quiet.four, 9000, echo), ExitStack() as callers:
        quiet.publish(quiet.four, "::", to=9000)
        before = threading.active_count()
        connected = [callers.enter_context(dial(quiet.host, "::1")) for _ in range(CALLERS)]
        for number, caller in enumerate(connected):
            caller.sendall(str(number).encode())
        assert [int(caller.recv(64)) for caller in connected] == list(range(CALLERS))
        assert threading.active_count() <= before + CALLERS, "one for each in the container, none here"


def test_a_port_that_goes_breaks_off_what_goes_on_and_is_anybodys(quiet: Lane) -> None:
    with serving(quiet.four, 9000, echo):
        quiet.publish(quiet.four, "::", to=9000)
        with dial(quiet.host, "::1") as caller:
            caller.sendall(b"x")
            assert caller.recv(1) == b"x"
            quiet.withdraw()
            with pytest.raises(ConnectionResetError):
                caller.recv(1)
    assert is_cut_off(quiet.host, "::1", 8080)
    with Server(quiet.host, 8080):
        assert call(quiet.host, "::1", 8080) == "::1"


def test_other_ports_go_on_when_one_comes(quiet: Lane) -> None:
    with serving(quiet.four, 9000, echo):
        quiet.publish(quiet.four, "::", to=9000)
        with dial(quiet.host, "::1") as caller:
            caller.sendall(b"x")
            assert caller.recv(1) == b"x"
            quiet.publish(quiet.dual, "::", 8081)
            caller.sendall(b"y")
            assert caller.recv(1) == b"y"


def test_who_holds_a_port_again_is_not_kept_from_it_by_connections_of_before(quiet: Lane) -> None:
    """The plugin died, and what it carried died with it."""
    with serving(quiet.four, 9000, echo):
        quiet.publish(quiet.four, "::", to=9000)
        with dial(quiet.host, "::1") as caller:
            caller.sendall(b"x")
            assert caller.recv(1) == b"x"
            caller.shutdown(socket.SHUT_WR)
            assert caller.recv(1) == b""
        assert "TIME-WAIT" in quiet.host.sh("ss -tan"), "as a socket that nobody has any more"
        quiet.withdraw()
        quiet.publish(quiet.four, "::", to=9000)
        with dial(quiet.host, "::1") as caller:
            caller.sendall(b"x")
            assert caller.recv(1) == b"x"


@pytest.mark.parametrize("taken", ["::", "::1"])
def test_no_other_program_gets_a_port_that_listens(quiet: Lane, taken: str) -> None:
    quiet.publish(quiet.four, "::")
    with quiet.host.run(socket.socket, socket.AF_INET6, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="Address already in use"):
            server.bind((taken, 8080))


# -- datagrams


class Echo:
    """Answers datagrams in a container with what they said and who sent them."""

    def __init__(self, container: Container, port: int) -> None:
        """Begin to listen."""
        self._socket = container.sandbox.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("", port))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            text, caller = self._socket.recvfrom(1 << 16)
            if text == b"end":
                return
            self._socket.sendto(caller[0].encode() + b" " + text, caller)

    def close(self) -> None:
        """Stop."""
        own = self._socket.getsockname()[1]
        self._socket.sendto(b"end", ("127.0.0.1", own))
        self._thread.join()
        self._socket.close()


def asked(caller: Namespace, *addresses: str) -> list[str]:
    """Ask from one socket at each address; answer what came back from where."""
    with caller.run(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        found = []
        for address in addresses:
            asking.sendto(b"who?", (address, 5353))
            text, (answerer, port, *_) = asking.recvfrom(64)
            found.append(f"{answerer} {port} {text.decode()}")
        return found


def test_answers_to_datagrams_come_from_the_address_that_was_called(lane: Lane) -> None:
    lane.host.sh("ip addr replace fd00:5::9/64 dev eth0 nodad")
    lane.publish(lane.four, "::", 5353, 53, Protocol.UDP)
    with closing(Echo(lane.four, 53)):
        told = f"5353 {GATEWAY4} who?"
        assert asked(lane.outside, HOST6, "fd00:5::9") == [f"{HOST6} {told}", f"fd00:5::9 {told}"]
        assert asked(lane.host, "::1", HOST6) == [f"::1 {told}", f"{HOST6} {told}"]


def number_in(caller: socket.socket) -> int:
    """Answer the number that comes back, what was said before it let by."""
    while not (word := caller.recv(64).split()[1]).isdigit():
        pass
    return int(word)


def test_each_caller_has_its_own_answers_and_a_silent_container_ends_nothing(quiet: Lane) -> None:
    quiet.publish(quiet.four, "::", 5353, 53, Protocol.UDP)
    with ExitStack() as stack:
        callers = [
            stack.enter_context(quiet.host.run(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM)) for _ in range(20)
        ]
        for caller in callers:
            caller.settimeout(5)
            caller.sendto(b"nobody listens yet", ("::1", 5353))
        with closing(Echo(quiet.four, 53)):
            for number, caller in enumerate(callers):
                caller.sendto(str(number).encode(), ("::1", 5353))
            assert [number_in(caller) for caller in callers] == list(range(20))
