# SPDX-License-Identifier: Apache-2.0
"""Published ports: real packets from everywhere, with Docker's rules around and without."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import msgspec
import pytest

from dni_driver.core.errors import KernelError, Refused
from dni_driver.core.overlays import Address
from dni_driver.core.ports import HostPort, Protocol, Published
from dni_driver.core.wanted import Link
from dni_driver.kernel.ports.table import NAME
from tests import sctp
from tests.root import docker
from tests.root.ground import Namespace
from tests.root.packets import PORT, Server, call, is_cut_off
from tests.root.town import DCOS, DEV, OPEN, Container, Host, Overlay, link, plug

pytestmark = pytest.mark.root

HOST, HOST6 = "198.51.100.1", "fd00:5::1"
OUTSIDE, OUTSIDE6 = "198.51.100.2", "fd00:5::2"
GATEWAY, GATEWAY6 = "9.0.0.129", "fd01:b::8000:0:1"
ANY = ("0.0.0.0", "::")


@pytest.fixture(params=["with Docker", "without Docker"])
def street(request: pytest.FixtureRequest, host: Host, outside: Namespace) -> Iterator[Street]:
    """Three containers of two overlays, where FORWARD drops and bridged frames go through it, and where not."""
    with ExitStack() as around:
        if request.param == "with Docker":
            around.enter_context(docker.docker_on(host))
        yield Street(host, outside)


class Street:
    """A host with two containers on an overlay, one on another, and one on an overlay that is open."""

    def __init__(self, host: Host, outside: Namespace) -> None:
        """Bring all of it up."""
        self.host, self.outside = host, outside
        host.want(DCOS, DEV, OPEN)
        host.reconcile()
        self.dcos, self.dcos2 = host.container(DCOS), host.container(DCOS, 1)
        self.dev, self.open = host.container(DEV), host.container(OPEN)

    def publish(self, *ports: Published) -> None:
        """Have these ports published, and no others."""
        self.host.wanted = msgspec.structs.replace(self.host.wanted, ports=ports)
        self.host.run(self.host.kernel.publish, lambda: self.host.wanted)


def published(
    container: Container, port: int, *host_ips: str, to: int = PORT, protocol: Protocol = Protocol.TCP
) -> list[Published]:
    """Describe a port of the host that leads to a container."""
    own: dict[int, Address] = {address.version: address.ip for address in container.link.addresses}
    return [
        Published(at=HostPort(protocol, ip, port), target=own[ip.version], port=to, bridge=container.link.bridge)
        for ip in map(ip_address, host_ips or ANY)
        if ip.version in own
    ]


def listed(host: Host) -> str:
    return host.sh("nft -s list ruleset")


# -- from everywhere


def test_a_port_is_reached_from_the_outside_and_the_caller_is_seen(street: Street) -> None:
    street.publish(*published(street.dcos, 8080))
    assert call(street.outside, HOST, 8080) == OUTSIDE
    assert call(street.outside, HOST6, 8080) == OUTSIDE6
    assert is_cut_off(street.outside, street.dcos.address.ip), "nothing else is opened"
    assert is_cut_off(street.outside, HOST, 8081)


def test_a_port_is_reached_from_the_host_by_each_of_its_addresses(street: Street) -> None:
    street.publish(*published(street.dcos, 8080))
    assert call(street.host, HOST, 8080) == HOST
    assert call(street.host, HOST6, 8080) == HOST6
    assert call(street.host, "127.0.0.1", 8080) == GATEWAY
    assert call(street.host, "127.1.2.3", 8080) == GATEWAY
    assert call(street.host, GATEWAY, 8080) == GATEWAY


def test_a_port_is_reached_from_containers_of_its_overlay_and_of_others(street: Street) -> None:
    street.publish(*published(street.dcos, 8080))
    for address, gateway in ((HOST, GATEWAY), (HOST6, GATEWAY6)):
        assert call(street.dcos2.sandbox, address, 8080) == gateway
        assert call(street.dcos.sandbox, address, 8080) == gateway, "itself"
    assert call(street.dev.sandbox, HOST, 8080) == str(street.dev.address.ip)
    assert call(street.dev.sandbox, HOST6, 8080) == str(street.dev.address6.ip)
    assert call(street.open.sandbox, HOST, 8080) == str(street.open.address.ip)
    assert call(street.dcos2.sandbox, GATEWAY, 8080) == GATEWAY


def moved_in(street: Street, container: Container, place: Overlay) -> Link:
    """Put a container on another network too."""
    second = link(place, 5, container.sandbox, "eth1")
    street.host.run(street.host.kernel.attach, second, [container.link])
    plug(street.host, msgspec.structs.replace(second, gateways=()), container.sandbox, "eth1")
    street.host.wanted = msgspec.structs.replace(street.host.wanted, links=(*street.host.wanted.links, second))
    street.host.reconcile()
    return second


def test_a_port_is_reached_by_neighbours_on_any_network_of_its_container(street: Street) -> None:
    """It would answer them past the host, and they would not know the answer."""
    moved_in(street, street.dcos, DEV)
    ports = [msgspec.structs.replace(one, beside=("d-dev",)) for one in published(street.dcos, 8080)]
    street.publish(*ports, *published(street.dcos2, 8081))
    assert call(street.dev.sandbox, HOST, 8080) == GATEWAY
    assert call(street.dev.sandbox, HOST6, 8080) == GATEWAY6
    assert call(street.dev.sandbox, HOST, 8081) == str(street.dev.address.ip), "a container that is not there"
    assert call(street.outside, HOST, 8080) == OUTSIDE
    assert street.host.reconcile() == []
    street.publish(*published(street.dcos2, 8081))
    assert street.host.run(street.host.kernel.observe, street.host.wanted).firewall == ()
    assert "9.0.0.130" not in street.host.sh(f"nft list table {NAME}")


def test_a_network_without_masquerade_publishes_too(street: Street) -> None:
    street.publish(*published(street.open, 8080))
    assert call(street.outside, HOST, 8080) == OUTSIDE
    assert call(street.open.sandbox, HOST, 8080)


def test_a_port_at_one_address_of_the_host_is_not_at_the_others(street: Street) -> None:
    street.publish(*published(street.dcos, 8080, "127.0.0.1"), *published(street.dcos, 8081, HOST, HOST6))
    assert call(street.host, "127.0.0.1", 8080) == GATEWAY
    assert is_cut_off(street.outside, HOST, 8080)
    assert is_cut_off(street.host, "127.0.0.1", 8081)
    assert call(street.outside, HOST, 8081) == OUTSIDE
    assert call(street.outside, HOST6, 8081) == OUTSIDE6
    assert is_cut_off(street.dcos2.sandbox, GATEWAY, 8081)


def test_containers_do_not_get_to_the_loopback_of_the_host(street: Street) -> None:
    """The bridge routes 127.0.0.1 for published ports; what listens there is still the host's alone."""
    street.publish(*published(street.dcos, 8080))
    assert street.host.setting("ipv4/conf/d-dcos/route_localnet") == "1"
    with Server(street.host, 9090):
        street.dcos.sandbox.sh("ip addr del 127.0.0.1/8 dev lo", f"ip route add 127.0.0.1 via {GATEWAY}")
        street.dcos.sandbox.sysctl("ipv4/conf/all/route_localnet", 1)
        assert is_cut_off(street.dcos.sandbox, "127.0.0.1", 9090)
        assert call(street.host, "127.0.0.1", 9090), "the host itself"


# -- protocols


class _Echo:
    """Answers datagrams in a namespace with the sender's address."""

    def __init__(self, namespace: Namespace, port: int, patience: float = 2) -> None:
        self._namespace = namespace
        self._socket = namespace.run(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM)
        self._socket.bind(("::", port))
        self._socket.settimeout(patience)

    def answer(self) -> None:
        _, (caller, port, *_) = self._socket.recvfrom(64)
        self._socket.sendto(caller.removeprefix("::ffff:").encode(), (caller, port))

    def close(self) -> None:
        self._socket.close()


def _ask(sender: socket.socket, address: str, port: int, echo: _Echo) -> str:
    sender.settimeout(2)
    sender.sendto(b"who am I", (address, port))
    echo.answer()
    return sender.recv(64).decode()


def _datagrams(namespace: Namespace, family: int) -> socket.socket:
    return namespace.run(socket.socket, family, socket.SOCK_DGRAM)


def test_udp_gets_there_and_back(street: Street) -> None:
    street.publish(*published(street.dcos, 5353, to=53, protocol=Protocol.UDP))
    with closing(_Echo(street.dcos.sandbox, 53)) as echo:
        with _datagrams(street.outside, socket.AF_INET) as sender:
            assert _ask(sender, HOST, 5353, echo) == OUTSIDE
        with _datagrams(street.outside, socket.AF_INET6) as sender:
            assert _ask(sender, HOST6, 5353, echo) == OUTSIDE6
        with _datagrams(street.host, socket.AF_INET) as sender:
            assert _ask(sender, "127.0.0.1", 5353, echo) == GATEWAY


def test_a_sender_of_udp_that_was_there_first_finds_the_container_and_later_another(street: Street) -> None:
    """The kernel asks for the way of a connection once, and datagrams from one port to another are one."""
    with _datagrams(street.outside, socket.AF_INET) as sender:
        sender.sendto(b"anybody there?", (HOST, 5353))
        for container in (street.dcos, street.dcos2):
            street.publish(*published(container, 5353, to=53, protocol=Protocol.UDP))
            with closing(_Echo(container.sandbox, 53)) as echo:
                assert _ask(sender, HOST, 5353, echo) == OUTSIDE


def test_a_sender_of_udp_finds_nobody_where_its_port_is_withdrawn_be_it_the_last_one(street: Street) -> None:
    with _datagrams(street.outside, socket.AF_INET) as sender:
        for others in (published(street.dcos, 80), []):
            street.publish(*others, *published(street.dcos, 5353, to=53, protocol=Protocol.UDP))
            with closing(_Echo(street.dcos.sandbox, 53, patience=0.3)) as echo:
                assert _ask(sender, HOST, 5353, echo) == OUTSIDE
                street.publish(*others)
                with pytest.raises((TimeoutError, ConnectionRefusedError)):
                    _ask(sender, HOST, 5353, echo)


def test_sctp_gets_there_and_back(street: Street) -> None:
    """By hand: this kernel need not have sockets of SCTP, it must follow its connections."""
    street.publish(*published(street.dcos, 5000, to=6000, protocol=Protocol.SCTP))
    if not street.host.run(street.host.kernel.hold, HostPort(Protocol.SCTP, IPv4Address(0), 5000)):
        pytest.fail("nobody else has the port")
    with street.outside.run(sctp.raw) as client, street.dcos.sandbox.run(sctp.raw) as server:
        client.sendto(sctp.init(4000, 5000), (HOST, 0))
        assert sctp.received(server) == (OUTSIDE, 4000, 6000)
        server.sendto(sctp.init_ack(6000, 4000), (OUTSIDE, 0))
        assert sctp.received(client) == (HOST, 5000, 4000)


# -- the table


def test_the_table_is_there_while_a_port_is_published(street: Street) -> None:
    host = street.host
    before = listed(host)
    street.publish(*published(street.dcos, 8080))
    assert f"table {NAME}" in listed(host)
    street.publish()
    assert listed(host) == before
    assert host.setting("ipv4/conf/d-dcos/route_localnet") == "0"


def test_a_port_more_leaves_the_others_and_their_connections_alone(street: Street) -> None:
    street.publish(*published(street.dcos, 8080))
    rules = street.host.sh(f"nft -a list chain {NAME} ports")
    street.publish(*published(street.dcos, 8080), *published(street.dcos2, 8081))
    assert street.host.sh(f"nft -a list chain {NAME} ports") == rules, "no rule was made anew"
    assert call(street.outside, HOST, 8081) == OUTSIDE
    street.publish(*published(street.dcos2, 8081))
    assert is_cut_off(street.outside, HOST, 8080)
    assert call(street.outside, HOST, 8081) == OUTSIDE


def test_a_port_can_come_to_lead_elsewhere(street: Street) -> None:
    street.publish(*published(street.dcos, 8080))
    with Server(street.dcos2.sandbox, 80):
        street.publish(*published(street.dcos2, 8080, to=80))
        assert call(street.outside, HOST, 8080) == OUTSIDE


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("nft flush ruleset", f"nft table {NAME} is missing"),
        (f"nft delete table {NAME}", f"nft table {NAME} is missing"),
        (f"nft flush chain {NAME} ports", f"nft table {NAME} was changed by another program"),
        (f"nft delete element {NAME} any4 '{{ tcp . 8080 }}'", f"nft table {NAME}: port 0.0.0.0:8080/tcp is missing"),
        (
            f"nft add element {NAME} one4 '{{ 192.0.2.1 . udp . 9 : 192.0.2.2 . 9 }}'",
            f"nft table {NAME}: port 192.0.2.1:9/udp is left over",
        ),
        (
            f"nft add element {NAME} d-dev-4 '{{ 192.0.2.2 }}'",
            f"nft table {NAME}: neighbours of 192.0.2.2 on d-dev are left over",
        ),
        ("sysctl -qw net.ipv4.conf.d-dcos.route_localnet=0", "net.ipv4.conf.d-dcos.route_localnet"),
    ],
)
def test_what_others_change_is_told_and_put_back(street: Street, harm: str, told: str) -> None:
    host = street.host
    street.publish(*published(street.dcos, 8080))
    host.reconcile()
    host.sh(harm)
    assert any(told in line for line in host.run(host.kernel.observe, host.wanted).firewall)
    assert any(told in line for line in host.reconcile())
    assert call(street.outside, HOST, 8080) == OUTSIDE
    assert call(street.host, "127.0.0.1", 8080) == GATEWAY
    assert host.run(host.kernel.observe, host.wanted).firewall == ()
    assert host.reconcile() == []


def test_a_thousand_ports_come_and_go_in_one_step(host: Host) -> None:
    host.want(DCOS)
    host.reconcile()
    container = host.container(DCOS)
    ports = [one for port in range(20000, 21000) for one in published(container, port, to=port)]
    host.wanted = msgspec.structs.replace(host.wanted, ports=tuple(ports))
    host.run(host.kernel.publish, lambda: host.wanted)
    assert host.run(host.kernel.observe, host.wanted).firewall == ()
    host.wanted = msgspec.structs.replace(host.wanted, ports=tuple(ports[::2]))
    host.run(host.kernel.publish, lambda: host.wanted)
    assert host.run(host.kernel.observe, host.wanted).firewall == ()


# -- holding a port


def held(host: Host, ip: str, port: int, protocol: Protocol = Protocol.TCP) -> bool:
    return host.run(host.kernel.hold, HostPort(protocol, ip_address(ip), port))


def try_to_serve(host: Host, ip: str, port: int, kind: int = socket.SOCK_STREAM) -> None:
    """Bind as every server does."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with host.run(socket.socket, family, kind) as server:
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((ip, port))


@pytest.mark.parametrize("ip", ["0.0.0.0", "::"])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_no_other_program_gets_a_port_that_is_held(host: Host, ip: str, kind: int) -> None:
    protocol = Protocol.TCP if kind == socket.SOCK_STREAM else Protocol.UDP
    at = HostPort(protocol, ip_address(ip), 8080)
    assert held(host, ip, 8080, protocol)
    assert held(host, ip, 8080, protocol), "a repeat"
    for wanted in (ip, "::1" if ":" in ip else "127.0.0.1"):
        with pytest.raises(OSError, match="Address already in use"):
            try_to_serve(host, wanted, 8080, kind)
    host.kernel.release([at])
    try_to_serve(host, ip, 8080, kind)


def test_a_held_port_refuses_callers_at_once(host: Host) -> None:
    assert held(host, "0.0.0.0", 8080)
    with pytest.raises(ConnectionRefusedError):
        host.run(socket.create_connection, ("127.0.0.1", 8080), 2)


def test_connections_that_wait_for_their_end_are_in_nobodys_way(host: Host) -> None:
    """A server that has just ended leaves some, for a minute."""
    server: Any = host.run(socket.create_server, ("0.0.0.0", 8080))
    with server, host.run(socket.create_connection, ("127.0.0.1", 8080)) as client:
        accepted, _ = server.accept()
        accepted.close()
        assert client.recv(1) == b""
    assert "TIME-WAIT" in host.sh("ss -tan")
    assert held(host, "0.0.0.0", 8080)


def test_a_port_that_a_program_has_is_not_held_and_the_program_is_named(host: Host) -> None:
    with Server(host, 8080):
        for ip in ("0.0.0.0", "::", "127.0.0.1"):
            assert not held(host, ip, 8080)
            named = host.run(host.kernel.port_holder, HostPort(Protocol.TCP, ip_address(ip), 8080))
            assert named is not None
            assert "(pid " in named
    assert held(host, "0.0.0.0", 8080), "afterwards"


def test_a_port_that_nobody_has_is_nobodys(host: Host) -> None:
    assert host.run(host.kernel.port_holder, HostPort(Protocol.TCP, IPv4Address(0), 8080)) is None


def test_all_other_ports_are_let_go_of(host: Host) -> None:
    assert held(host, "0.0.0.0", 8080)
    assert held(host, "0.0.0.0", 8081)
    host.kernel.hold_only([HostPort(Protocol.TCP, IPv4Address(0), 8081)])
    try_to_serve(host, "0.0.0.0", 8080)
    with pytest.raises(OSError, match="Address already in use"):
        try_to_serve(host, "0.0.0.0", 8081)


def test_an_address_that_the_host_does_not_have_is_refused(host: Host) -> None:
    with pytest.raises(Refused, match=r"no address 203\.0\.113\.9"):
        held(host, "203.0.113.9", 8080)
    with pytest.raises(Refused, match="no address fe80::1"):
        host.run(host.kernel.hold, HostPort(Protocol.TCP, IPv6Address("fe80::1"), 8080))


def test_sctp_is_refused_where_the_kernel_does_not_follow_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dni_driver.kernel.ports.holds.follows_sctp", lambda: False)
    with pytest.raises(KernelError, match="modprobe nf_conntrack_proto_sctp"):
        held(host, "0.0.0.0", 5000, Protocol.SCTP)


def test_ports_that_will_do_are_those_that_the_host_gives_to_programs(host: Host) -> None:
    host.sysctl("ipv4/ip_local_port_range", "40000 40099")
    assert host.run(host.kernel.dynamic_ports) == range(40000, 40100)
