# SPDX-License-Identifier: Apache-2.0
"""An MTU that changes reaches the containers that run: packets of full size get through, larger ones do not leave."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import msgspec
import pytest

from dni_driver.core.errors import KernelError
from dni_driver.core.wanted import Link
from tests.root.ground import Namespace
from tests.root.packets import call
from tests.root.town import DCOS, Container, Host, link

pytestmark = pytest.mark.root

HEADERS = 28
"""Bytes of IPv4 and UDP."""
PORT = 9
_DISCOVER, _NEVER_FRAGMENT = 10, 2
"""IP_MTU_DISCOVER and IP_PMTUDISC_DO of ip(7), which the socket module does not name."""


@contextmanager
def echo(place: Namespace) -> Iterator[None]:
    """Answer each datagram with itself."""
    server = place.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", PORT))
    server.settimeout(0.1)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                server.sendto(*server.recvfrom(65535))
            except OSError:
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        server.close()


def passes(caller: Namespace, target: object, size: int) -> bool:
    """Tell whether a packet of `size` bytes that must not be cut gets to a target and back."""

    def send() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker:
            speaker.setsockopt(socket.IPPROTO_IP, _DISCOVER, _NEVER_FRAGMENT)
            speaker.settimeout(5)
            speaker.connect((str(target), PORT))
            try:
                speaker.send(bytes(size - HEADERS))
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                return False
            return len(speaker.recv(65535)) == size - HEADERS

    return caller.run(send)


@pytest.fixture
def dcos(host: Host) -> Host:
    host.want(DCOS)
    host.reconcile()
    return host


def resize(host: Host, mtu: int) -> list[str]:
    """Record another MTU, and reconcile."""
    replace = msgspec.structs.replace
    host.wanted = replace(
        host.wanted,
        bridges=tuple(replace(bridge, mtu=mtu) for bridge in host.wanted.bridges),
        links=tuple(replace(link, mtu=mtu) for link in host.wanted.links),
    )
    return host.reconcile()


def mtu_of(place: Namespace, name: str) -> int:
    words = place.sh(f"ip -o link show {name}").split()
    return int(words[words.index("mtu") + 1])


def mtus(host: Host, container: Container) -> set[int]:
    return {
        mtu_of(host, "d-dcos"),
        mtu_of(host, container.link.host),
        mtu_of(container.sandbox, "eth0"),
    }


@pytest.mark.parametrize("mtu", [1350, 8950])
def test_a_running_container_follows(dcos: Host, outside: Namespace, mtu: int) -> None:
    one, two = dcos.container(DCOS), dcos.container(DCOS, 1)
    for place in (dcos, outside):
        place.sh(f"ip link set eth0 mtu {mtu}")
    with echo(two.sandbox), echo(dcos), echo(outside):
        resize(dcos, mtu)
        for target in (two.address.ip, "9.0.0.129", "198.51.100.2"):
            assert passes(one.sandbox, target, mtu)
            assert not passes(one.sandbox, target, mtu + 1)
    assert mtus(dcos, one) == {mtu}
    assert dcos.reconcile() == []


def test_its_addresses_and_routes_stay_and_so_does_ipv6(dcos: Host) -> None:
    container = dcos.container(DCOS)

    def there() -> list[str]:
        return [container.sandbox.sh(command) for command in ("ip -o -4 addr", "ip route", "ip -6 route")]

    before = there()
    resize(dcos, 1280)
    assert there() == before
    assert call(dcos, container.address6.ip)


def test_a_connection_goes_on(dcos: Host, outside: Namespace) -> None:
    """What is sent after the change is cut smaller."""
    one = dcos.container(DCOS)
    server = outside.run(socket.create_server, ("198.51.100.2", PORT))
    with server, one.sandbox.run(socket.create_connection, ("198.51.100.2", PORT)) as near:
        far, _ = server.accept()
        with far:
            for mtu in (1300, 1450, 1280):
                resize(dcos, mtu)
                data = bytes(100_000)
                writing = threading.Thread(target=near.sendall, args=(data,))
                writing.start()
                far.settimeout(10)
                left = len(data)
                while left:
                    left -= len(far.recv(65536))
                writing.join()


def test_one_that_was_cut_short_is_done_again(dcos: Host) -> None:
    """The host end comes last: as long as it has the old MTU, the container end is not known to have the new one."""
    container = dcos.container(DCOS)
    container.sandbox.sh("ip link set eth0 mtu 1350")
    resize(dcos, 1350)
    assert mtus(dcos, container) == {1350}


def test_a_link_that_waits_to_be_moved_follows_too(dcos: Host) -> None:
    waiting = link(DCOS)
    dcos.run(dcos.kernel.attach, waiting)
    dcos.wanted = msgspec.structs.replace(dcos.wanted, links=(waiting,))
    resize(dcos, 1350)
    assert mtu_of(dcos, waiting.container) == mtu_of(dcos, waiting.host) == 1350


def test_a_sandbox_that_cannot_be_entered_is_told_and_keeps_no_other_back(dcos: Host) -> None:
    lost, good = dcos.container(DCOS), dcos.container(DCOS, 1)
    gone: Link = msgspec.structs.replace(lost.link, sandbox="/run/docker/netns/gone")
    dcos.wanted = msgspec.structs.replace(dcos.wanted, links=(gone, good.link))
    with pytest.raises(KernelError, match=f"link {gone.host}: sandbox /run/docker/netns/gone cannot be entered"):
        resize(dcos, 1350)
    assert mtus(dcos, good) == {1350}
    assert mtu_of(dcos, gone.host) == 1450, "it is tried again"


def test_the_underlay_is_the_link_of_the_agent_ip(host: Host, outside: Namespace) -> None:
    assert outside
    host.wanted = msgspec.structs.replace(host.wanted, agent=IPv4Address("198.51.100.1"))
    seen = host.run(host.kernel.observe, host.wanted).underlay
    assert seen is not None
    assert (seen.link, seen.mtu) == ("eth0", 1500)
    host.wanted = msgspec.structs.replace(host.wanted, agent=IPv4Address("203.0.113.1"))
    assert host.run(host.kernel.observe, host.wanted).underlay is None
