# SPDX-License-Identifier: Apache-2.0
"""Connections of UDP, which have no end: where they lead once a port or a container has gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from ipaddress import ip_address

import msgspec
import pytest

from dni_driver.core.deadline import deadline
from dni_driver.core.ports import HostPort, Protocol, Published
from dni_driver.kernel import Kernel
from dni_driver.kernel.lock import locked
from dni_driver.kernel.netlink import nfnetlink
from dni_driver.kernel.ports import conntrack
from tests.root.ground import Namespace
from tests.root.town import DCOS, Container, Host

pytestmark = pytest.mark.root

HOST, OUTSIDE = "198.51.100.1", "198.51.100.2"
IMPATIENCE = 0.3


@contextmanager
def datagrams(place: Namespace, port: int, patience: float = 2) -> Iterator[socket.socket]:
    """Have a socket at a port."""
    with place.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("", port))
        bound.settimeout(patience)
        yield bound


def known(host: Host) -> int:
    return int(host.setting("netfilter/nf_conntrack_count"))


def hears(listener: socket.socket) -> bytes | None:
    try:
        return listener.recv(64)
    except TimeoutError:
        return None


def talk_much(place: Namespace, ports: range) -> None:
    """Begin as many connections of UDP."""

    def begin() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for port in ports:
                with suppress(ConnectionRefusedError):
                    sender.sendto(b"", ("127.0.0.1", port))

    place.run(begin)


class Corner:
    """A host with two containers, and a machine beside it that answers whom it has heard."""

    def __init__(self, host: Host, outside: Namespace, remote: socket.socket) -> None:
        """Bring them up."""
        self.host, self.outside, self.remote = host, outside, remote
        host.want(DCOS)
        host.reconcile()
        self.one, self.two = host.container(DCOS), host.container(DCOS, 1)

    def publish(self, container: Container | None, *ports: int) -> None:
        """Have these ports of UDP lead to a container, and no others anywhere."""
        led = [
            Published(
                at=HostPort(Protocol.UDP, ip_address("0.0.0.0"), port),
                target=container.address.ip,
                port=port,
                bridge=container.link.bridge,
            )
            for port in ports
            if container
        ]
        self.host.wanted = msgspec.structs.replace(self.host.wanted, ports=tuple(led))
        self.host.run(self.host.kernel.publish, lambda: self.host.wanted)

    def call(self, container: Container, port: int) -> tuple[str, int]:
        """Have a container call from a port and be answered; answer whom the machine outside saw."""
        with datagrams(container.sandbox, port) as caller:
            caller.sendto(b"register", (OUTSIDE, self.remote.getsockname()[1]))
            _, seen = self.remote.recvfrom(64)
            self.remote.sendto(b"registered", seen)
            assert hears(caller) == b"registered"
        return seen[0], seen[1]


@pytest.fixture
def corner(host: Host, outside: Namespace) -> Iterator[Corner]:
    with datagrams(outside, 4000) as remote:
        yield Corner(host, outside, remote)


def test_whom_a_container_called_from_its_port_finds_the_one_that_has_the_port_next(corner: Corner) -> None:
    corner.publish(corner.one, 5060)
    seen = corner.call(corner.one, 5060)
    assert seen == (HOST, 5060)
    corner.publish(None)
    corner.publish(corner.two, 5060)
    with datagrams(corner.two.sandbox, 5060) as listener:
        corner.remote.sendto(b"invite", seen)
        assert hears(listener) == b"invite"


def test_a_published_port_leaves_alone_what_containers_ask_of_such_a_port_elsewhere(corner: Corner) -> None:
    with datagrams(corner.outside, 53) as server, datagrams(corner.one.sandbox, 5353) as asker:
        asker.sendto(b"where is it", (OUTSIDE, 53))
        corner.publish(corner.two, 53)
        server.sendto(b"there", server.recvfrom(64)[1])
        assert hears(asker) == b"there"


def test_whom_a_container_called_does_not_get_through_to_the_next_one_with_its_address(corner: Corner) -> None:
    seen = corner.call(corner.one, 5060)
    corner.host.run(corner.host.kernel.detach, [corner.one.link.endpoint])
    corner.host.kernel.drain()
    heir = corner.host.container(DCOS)
    with datagrams(heir.sandbox, 5060, IMPATIENCE) as listener:
        corner.remote.sendto(b"invite", seen)
        assert hears(listener) is None


def test_whom_a_container_called_outlives_neither_it_nor_the_process_that_plugged_it(corner: Corner) -> None:
    """A process that begins later knows containers by its first reconcile."""
    seen = corner.call(corner.one, 5060)
    with closing(Kernel(corner.host.run_dir)) as later:
        corner.host.run(later.reconcile, lambda: corner.host.wanted)
        corner.host.run(later.detach, [corner.one.link.endpoint])
        later.drain()
    heir = corner.host.container(DCOS)
    with datagrams(heir.sandbox, 5060, IMPATIENCE) as listener:
        corner.remote.sendto(b"invite", seen)
        assert hears(listener) is None


@pytest.mark.parametrize("ports", [range(5060, 5061), range(5060, 5090)])
@pytest.mark.parametrize("attribute", [25, 99], ids=["it picks", "it does not know how"])
def test_connections_are_picked_one_by_one_and_many_at_once_and_by_a_kernel_that_does_not_pick(
    corner: Corner, ports: range, attribute: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack, "_FILTER", attribute)
    talk_much(corner.host, range(10000, 10100))
    seen = corner.call(corner.one, 5060)
    corner.publish(corner.two, *ports)
    assert known(corner.host) >= 100, "all others stay"
    with datagrams(corner.two.sandbox, 5060) as listener:
        corner.remote.sendto(b"invite", seen)
        assert hears(listener) == b"invite"


def test_of_many_connections_the_kernel_tells_those_alone_that_are_meant(
    corner: Corner, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    answers = nfnetlink.answers

    def listened_to(kernel: socket.socket) -> Iterator[tuple[int, bytes]]:
        for one in answers(kernel):
            told.append(one)
            yield one

    monkeypatch.setattr(nfnetlink, "answers", listened_to)
    talk_much(corner.host, range(10000, 10100))
    corner.host.run(conntrack.forget, [HostPort(Protocol.UDP, ip_address("0.0.0.0"), 10050)])
    corner.host.run(conntrack.forget_all_of, [corner.one.address.ip])
    assert len(told) == 1


def test_nobody_waits_for_connections_to_be_found(corner: Corner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is everybody's who changes this host."""
    free: list[bool] = []

    def look(_: object) -> None:
        with deadline(1), locked(corner.host.run_dir / "kernel.lock"):
            free.append(True)

    monkeypatch.setattr(conntrack, "forget", look)
    corner.publish(corner.one, 5060)
    corner.host.reconcile()
    assert free == [True, True]
