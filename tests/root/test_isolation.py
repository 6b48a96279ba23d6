# SPDX-License-Identifier: Apache-2.0
"""Who reaches whom: real packets between two overlays of each kind, Docker's bridge, the host and the outside."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from tests.root import docker
from tests.root.ground import Namespace, wire
from tests.root.packets import PORT, Server, call, is_cut_off
from tests.root.town import DCOS, DEV, OPEN, SHUT, Container, Host, overlay

pytestmark = pytest.mark.root

OUTSIDE = "198.51.100.2"
OUTSIDE6 = "fd00:5::2"
TOOLS = ("iptables", "ip6tables")
HOST, HOST6 = "198.51.100.1", "fd00:5::1"


class Street:
    """Two containers on each overlay of a host; the overlays are isolated, isolated, open and internal."""

    def __init__(self, host: Host, outside: Namespace, dockers: Namespace | None) -> None:
        """Bring all of it up."""
        self.host, self.outside, self.dockers = host, outside, dockers
        host.want(DCOS, DEV, OPEN, SHUT)
        host.reconcile()
        self.dcos, self.dcos2 = host.container(DCOS), host.container(DCOS, 1)
        self.dev, self.open, self.open2 = host.container(DEV), host.container(OPEN), host.container(OPEN, 1)
        self.shut, self.shut2 = host.container(SHUT), host.container(SHUT, 1)


@pytest.fixture
def with_docker(host: Host, outside: Namespace) -> Iterator[Street]:
    """FORWARD is DROP, and bridged frames go through it."""
    with docker.docker_on(host) as dockers:
        yield Street(host, outside, dockers)


@pytest.fixture
def without_docker(host: Host, outside: Namespace) -> Street:
    """FORWARD is ACCEPT: then only our own table keeps anybody out."""
    return Street(host, outside, None)


@pytest.fixture(params=["with_docker", "without_docker"])
def street(request: pytest.FixtureRequest) -> Street:
    found: Street = request.getfixturevalue(request.param)
    return found


def cut_off(caller: Namespace | Container, called: Container) -> bool:
    namespace = caller.sandbox if isinstance(caller, Container) else caller
    return all(is_cut_off(namespace, address.ip) for address in called.link.addresses)


def seen(caller: Container, called: Container) -> list[str | None]:
    """Answer whom a container takes another one for, by each of its addresses."""
    return [call(caller.sandbox, address.ip) for address in called.link.addresses]


def own(container: Container) -> list[str]:
    return [str(address.ip) for address in container.link.addresses]


def test_containers_of_one_overlay_reach_each_other_unmasked(street: Street) -> None:
    pairs = ((street.dcos, street.dcos2), (street.open, street.open2), (street.shut, street.shut2))
    for one, other in pairs:
        assert {address.version for address in one.link.addresses} == {4, 6}
        assert seen(one, other) == own(one)


def test_nobody_else_gets_into_an_isolated_overlay(street: Street) -> None:
    for caller in (street.dev, street.open, street.outside):
        assert cut_off(caller, street.dcos)
    assert cut_off(street.dcos, street.dev)


def test_dockers_own_containers_get_into_an_open_overlay_only(with_docker: Street) -> None:
    assert with_docker.dockers
    assert cut_off(with_docker.dockers, with_docker.dcos)
    assert cut_off(with_docker.dockers, with_docker.shut)
    for address in with_docker.open.link.addresses:
        assert call(with_docker.dockers, address.ip)
    assert call(with_docker.dockers, OUTSIDE)
    assert call(with_docker.dockers, OUTSIDE6)


def test_docker_itself_decides_who_gets_to_its_containers(with_docker: Street) -> None:
    for tool, address in (("iptables", docker.ADDRESS), ("ip6tables", docker.ADDRESS6)):
        for caller in (with_docker.dcos, with_docker.open, with_docker.shut):
            assert is_cut_off(caller.sandbox, address)
        with_docker.host.sh(f"{tool} -A DOCKER -d {address} ! -i docker0 -o docker0 -p tcp --dport {PORT} -j ACCEPT")
        assert call(with_docker.dcos.sandbox, address), "published by Docker"
        assert is_cut_off(with_docker.shut.sandbox, address), "internal gets nowhere"


def test_a_docker_network_made_later_is_not_opened_either(with_docker: Street) -> None:
    host = with_docker.host
    with Namespace() as later, Server(later):
        host.sh("ip link add br-0123456789ab type bridge", "ip addr add 172.18.0.1/16 dev br-0123456789ab")
        host.sh("ip link set br-0123456789ab up")
        wire(host, "veth18", later, "eth0")
        host.sh("ip link set veth18 master br-0123456789ab")
        later.sh("ip addr add 172.18.0.2/16 dev eth0", "ip route add default via 172.18.0.1")
        assert host.reconcile() == [f"{tool}: chain DNI-FORWARD has other rules: put right" for tool in TOOLS]
        assert is_cut_off(with_docker.dcos.sandbox, "172.18.0.2")
        assert call(with_docker.host, "172.18.0.2")


def test_an_open_overlay_lets_in_who_can_route_there(street: Street) -> None:
    assert [call(street.outside, address) for address in own(street.open)] == [OUTSIDE, OUTSIDE6]
    assert seen(street.dcos, street.open) == own(street.dcos), "between overlays unmasked"


def test_an_internal_overlay_keeps_to_itself(street: Street) -> None:
    for caller in (street.dcos, street.open, street.outside):
        assert cut_off(caller, street.shut)
    for called in (street.dcos, street.open):
        assert cut_off(street.shut, called)
    assert is_cut_off(street.shut.sandbox, OUTSIDE)
    assert is_cut_off(street.shut.sandbox, OUTSIDE6)


def test_the_host_reaches_every_container_and_they_reach_it(street: Street) -> None:
    with Server(street.host):
        for container in (street.dcos, street.dev, street.open, street.shut):
            assert all(call(street.host, address) for address in own(container))
            assert [call(container.sandbox, gateway) for gateway in container.link.gateways] == own(container)
        assert [call(street.dcos.sandbox, address) for address in (HOST, HOST6)] == own(street.dcos)


def test_what_leaves_for_the_outside_is_masqueraded(street: Street) -> None:
    assert call(street.dcos.sandbox, OUTSIDE) == HOST
    assert call(street.dcos.sandbox, OUTSIDE6) == HOST6


def test_without_masquerade_the_container_is_seen(street: Street) -> None:
    assert [call(street.open.sandbox, address) for address in (OUTSIDE, OUTSIDE6)] == own(street.open)


def test_what_leaves_for_an_overlay_elsewhere_is_not_masqueraded(host: Host, outside: Namespace) -> None:
    """Its containers run on other hosts: no network of it is here, its subnet is known."""
    host.want(DCOS)
    elsewhere = overlay("far", "10.70.0.1/24", subnets=("10.70.0.0/16",)).policy.subnets
    host.wanted = msgspec.structs.replace(host.wanted, overlay_subnets=(*host.wanted.overlay_subnets, *elsewhere))
    host.reconcile()
    container = host.container(DCOS)
    outside.sh("ip addr add 10.70.0.5/32 dev lo")
    assert call(container.sandbox, "10.70.0.5") == str(container.address.ip)


def published(host: Host, port: int, container: Container) -> None:
    """Publish a container's server at a port of the host, as the rules of published ports do."""
    target = f"{container.address.ip}:{PORT}"
    host.sh(
        "nft add table ip ports",
        "nft add chain ip ports in '{ type nat hook prerouting priority dstnat; }'",
        "nft add chain ip ports out '{ type nat hook postrouting priority srcnat; }'",
        f"nft add rule ip ports in ip daddr {HOST} tcp dport {port} dnat to {target}",
        f"nft add rule ip ports out ip saddr {container.address.ip} ip daddr {container.address.ip} masquerade",
    )


def test_published_ports_get_into_an_isolated_overlay(street: Street) -> None:
    published(street.host, 8080, street.dcos)
    assert call(street.outside, HOST, 8080) == OUTSIDE
    assert call(street.dev.sandbox, HOST, 8080)
    assert cut_off(street.outside, street.dcos)


def test_a_container_reaches_itself_by_its_published_port(street: Street) -> None:
    """The frame goes back out of the port it came in by: that takes hairpin."""
    published(street.host, 8080, street.dcos)
    assert call(street.dcos.sandbox, HOST, 8080)


def from_vtep(host: Host, address: str) -> Iterator[Namespace]:
    with Namespace() as peer:
        wire(host, "vtep1024", peer, "eth0")
        host.sh("ip addr add 44.128.0.1/20 dev vtep1024", f"ip route add {address}/32 via 44.128.0.2")
        peer.sh("ip addr add 44.128.0.2/20 dev eth0", f"ip addr add {address}/32 dev lo")
        peer.sh(f"ip route add default via 44.128.0.1 src {address}")
        yield peer


@pytest.mark.parametrize(("source", "welcome"), [("9.0.5.130", True), ("10.64.5.130", False), ("203.0.113.9", False)])
def test_from_other_agents_only_the_same_overlay_comes_in(
    with_docker: Street,
    source: str,
    welcome: bool,  # noqa: FBT001
) -> None:
    for peer in from_vtep(with_docker.host, source):
        if welcome:
            assert call(peer, with_docker.dcos.address.ip) == source
        else:
            assert is_cut_off(peer, with_docker.dcos.address.ip)


def test_no_stranger_gets_in_while_the_table_is_replaced(without_docker: Street) -> None:
    street = without_docker
    done = threading.Event()
    knocks: list[bool] = []

    def knock() -> None:
        while not done.is_set():
            knocks.append(is_cut_off(street.dev.sandbox, street.dcos.address.ip, patience=0.005))

    knocking = threading.Thread(target=knock)
    knocking.start()
    for masquerade in (False, True) * 5:
        street.host.want(DCOS, DEV, overlay("open", subnets=("10.65.0.0/16",), masquerade=masquerade))
        street.host.reconcile()
    done.set()
    knocking.join()
    assert len(knocks) > 10
    assert all(knocks)


def test_multicast_within_an_overlay_keeps_its_source(with_docker: Street) -> None:
    """Bridged frames go through postrouting too, and the group is in no overlay's subnet."""

    def listen() -> socket.socket:
        listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listening.bind(("", 5353))
        membership = socket.inet_aton("224.0.0.251") + socket.inet_aton("0.0.0.0")
        listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        listening.settimeout(5)
        return listening

    def say() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaking:
            speaking.sendto(b"who is there", ("224.0.0.251", 5353))

    with with_docker.dcos2.sandbox.run(listen) as listening:
        with_docker.dcos.sandbox.run(say)
        _, (source, _) = listening.recvfrom(64)
    assert source == str(with_docker.dcos.address.ip)
