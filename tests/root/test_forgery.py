# SPDX-License-Identifier: Apache-2.0
"""Who writes an overlay's address gets into it by no other agent's help: real packets between hosts."""

from __future__ import annotations

import socket
from ipaddress import IPv4Interface, IPv6Interface, ip_network

import msgspec
import pytest

from dni_driver.core.overlays import Backend
from tests.root import docker
from tests.root.cluster import Cluster, Member, agent_subnets, place
from tests.root.ground import Namespace
from tests.root.town import Container

pytestmark = pytest.mark.root

BACKENDS: tuple[Backend, ...] = ("vxlan", "direct")
_PORT = 4000
_SECRET = b"let me in"
_PATIENCE, _IMPATIENCE = 15.0, 0.5


@pytest.fixture(params=["cluster", "cluster6"], ids=["agents of IPv4", "agents of IPv6"])
def hosts(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = request.getfixturevalue(request.param)
    return found


def on(member: Member, *, internal: bool = False, mtu: int = 1430) -> Container:
    return member.container(place("dcos", member.number, internal=internal, mtu=mtu))


def gets_in(sender: Namespace, source: object, called: Container, patience: float = _IMPATIENCE) -> bool:
    """Tell whether a datagram from an address that the sender has reaches a container."""
    target = called.address if "." in str(source) else called.address6
    family = {4: socket.AF_INET, 6: socket.AF_INET6}[target.version]
    with (
        called.sandbox.run(socket.socket, family, socket.SOCK_DGRAM) as listener,
        sender.run(socket.socket, family, socket.SOCK_DGRAM) as speaker,
    ):
        listener.settimeout(patience)
        listener.bind(("", _PORT))
        speaker.bind((str(source), 0))
        speaker.sendto(_SECRET, (str(target.ip), _PORT))
        try:
            return listener.recv(100) == _SECRET
        except TimeoutError:
            return False


def taken(forger: Namespace, number: int) -> list[object]:
    """Give a forger addresses of the agent subnets of a number; answer them."""
    addresses = [ip_network(subnet)[200] for subnet in agent_subnets("dcos", number)]
    forger.sh(*(f"ip addr add {address} dev lo" for address in addresses))
    return list(addresses)


def meet(cluster: Cluster, backend: Backend, *, internal: bool = False) -> None:
    for member in cluster.near:
        member.know(
            cluster.others(member), {"dcos": backend}, place("dcos", member.number, internal=internal, mtu=1430)
        )
        member.reconcile()


def own(container: Container) -> list[IPv4Interface | IPv6Interface]:
    return [container.address, container.address6]


@pytest.mark.parametrize("internal", [False, True], ids=["isolated", "internal"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_dockers_own_containers_that_take_an_overlays_address_do_not_get_in_on_another_host(
    hosts: Cluster,
    backend: Backend,
    internal: bool,  # noqa: FBT001
) -> None:
    first, second = hosts.near[:2]
    with docker.docker_on(second) as dockers:
        meet(hosts, backend, internal=internal)
        called, honest = on(first, internal=internal), on(second, internal=internal)
        assert all(gets_in(honest.sandbox, address.ip, called, _PATIENCE) for address in own(honest))
        for address in taken(dockers, second.number):
            assert not gets_in(dockers, address, called), address


@pytest.mark.parametrize("backend", BACKENDS)
def test_nor_do_they_where_their_host_has_no_network_of_an_overlay(hosts: Cluster, backend: Backend) -> None:
    first, second = hosts.near[:2]
    with docker.docker_on(second) as dockers:
        meet(hosts, backend)
        second.wanted = msgspec.structs.replace(second.wanted, policies=(), bridges=(), guarded=False)
        second.reconcile()
        called = on(first)
        for address in taken(dockers, second.number):
            assert not gets_in(dockers, address, called), address


@pytest.mark.parametrize("internal", [False, True], ids=["isolated", "internal"])
def test_nor_does_a_machine_on_the_link_that_routes_by_another_agent(
    hosts: Cluster,
    internal: bool,  # noqa: FBT001
) -> None:
    """By VXLAN. Directly it needs no agent: the link is trusted (docs/data-plane.md)."""
    first, second = hosts.near[:2]
    meet(hosts, "vxlan", internal=internal)
    called, honest = on(first, internal=internal), on(second, internal=internal)
    assert all(gets_in(honest.sandbox, address.ip, called, _PATIENCE) for address in own(honest))
    for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        second.sysctl(key, 1)
    second.sh("ip addr add fd00:9::2/64 dev eth0 nodad")
    hosts.switch.sh("ip addr add fd00:9::254/64 dev lan nodad", "ping -c 1 -W 15 fd00:9::2")
    for subnet in agent_subnets("dcos", first.number):
        hosts.switch.sh(f"ip route add {subnet} via inet6 fd00:9::2 dev lan")
    for address in taken(hosts.switch, second.number):
        assert not gets_in(hosts.switch, address, called), address
