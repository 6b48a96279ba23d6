# SPDX-License-Identifier: Apache-2.0
"""A host with published ports and its callers, and what they say to each other over the relay."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from dni_driver.core.ports import HostPort, Protocol, Published, Relayed
from tests.root.conftest import machine_beside
from tests.root.ground import Namespace
from tests.root.packets import PORT
from tests.root.town import DCOS, FOUR, SHUT, Container, Host

HOST, HOST6, OUTSIDE = "198.51.100.1", "fd00:5::1", "198.51.100.2"
GATEWAY4 = "10.67.0.129"
LARGE = 8 << 20
MUCH = 256 << 20
"""More than all buffers on the way could hold together."""
PART = hashlib.shake_256(b"part").digest(1 << 16)


@contextmanager
def laid(run_dir: Path) -> Iterator[Lane]:
    """Bring up a host and a machine beside it."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with Host(run_dir) as host, machine_beside(host) as outside:
        yield Lane(host, outside)


class Lane:
    """A host with a container of IPv4 alone, one of both families, and one of an internal network."""

    def __init__(self, host: Host, outside: Namespace) -> None:
        """Bring them up."""
        self.host, self.outside = host, outside
        host.want(DCOS, FOUR, SHUT)
        host.reconcile()
        self.four, self.dual, self.shut = (host.container(place) for place in (FOUR, DCOS, SHUT))

    def publish(
        self, container: Container, at: str, port: int = 8080, to: int = PORT, protocol: Protocol = Protocol.TCP
    ) -> None:
        """Publish one port more, as the records of it would have it: led by the kernel, carried, or both."""
        place = HostPort(protocol, ip_address(at), port)
        assert self.host.run(self.host.kernel.hold, place)
        native = [one.ip for one in container.link.addresses if one.version == place.family]
        others = [one.ip for one in container.link.addresses if one.version != place.family]
        led = [
            Published(at=place, target=target, port=to, bridge=container.link.bridge)
            for target in native
            if not place.ip.is_loopback
        ]
        carried = Relayed(at=place, targets=(*native, *others), port=to)
        self.host.wanted = msgspec.structs.replace(
            self.host.wanted,
            ports=(*self.host.wanted.ports, *led),
            relayed=(*self.host.wanted.relayed, carried),
        )
        self.host.run(self.host.kernel.publish, lambda: self.host.wanted)

    def withdraw(self) -> None:
        """Publish nothing any more."""
        held = [one.at for one in self.host.wanted.relayed]
        self.host.kernel.release(held)
        self.host.wanted = msgspec.structs.replace(self.host.wanted, ports=(), relayed=())
        self.host.run(self.host.kernel.publish, lambda: self.host.wanted)


def dial(caller: Namespace, address: str, port: int = 8080) -> socket.socket:
    return caller.run(socket.create_connection, (address, port), 10)


@contextmanager
def serving(container: Container, port: int, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Have a container serve each caller by a function, one after the other in threads of their own."""
    listener = container.sandbox.run(socket.create_server, ("", port), backlog=512)
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()
        for thread in threads:
            thread.join()


def echo(connection: socket.socket) -> None:
    with connection, suppress(ConnectionResetError):
        while text := connection.recv(1 << 16):
            connection.sendall(text)


def received(connection: socket.socket) -> bytes:
    text = b""
    while part := connection.recv(1 << 16):
        text += part
    return text


def say_much(connection: socket.socket, said: hashlib._Hash) -> None:
    """Send until nothing more is taken for a while: TimeoutError."""
    for number in range(MUCH // len(PART)):
        part = PART[number % 256 :]
        said.update(part[: connection.send(part)])


def hear(caller: Namespace) -> bytes:
    """Call, and answer the first that is said."""
    with dial(caller, "::1") as connection:
        return connection.recv(64)


def link_local(host: Namespace, link: str) -> str:
    """Answer the address that a link of the host has by itself."""
    return host.sh(f"ip -6 -o addr show dev {link} scope link").split()[3].partition("/")[0]


def iter_of(connection: socket.socket, size: int) -> Iterator[bytes]:
    """Answer so many bytes as they come."""
    while size:
        part = connection.recv(1 << 16)
        assert part, "it ended early"
        size -= len(part)
        yield part
