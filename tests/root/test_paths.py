# SPDX-License-Identifier: Apache-2.0
"""Containers reach those of other agents by whatever backend: real packets between hosts."""

from __future__ import annotations

import re
import subprocess
from itertools import cycle

import pytest

from dni_driver.core.errors import KernelError
from dni_driver.core.overlays import Backend
from tests.root import docker
from tests.root.cluster import Cluster, Member, place
from tests.root.ground import Namespace, wire
from tests.root.packets import PORT, Server, call, is_cut_off
from tests.root.town import Container

pytestmark = pytest.mark.root

BACKENDS: tuple[Backend, ...] = ("vxlan", "direct", "auto")
CHANGES: tuple[Backend, ...] = ("direct", "auto", "vxlan", "direct", "vxlan")


def on(member: Member, name: str = "dcos", number: int = 0) -> Container:
    return member.container(place(name, member.number), number)


def sees(caller: Container, called: Container) -> bool:
    """Tell that the called container, by IPv4 and IPv6, is reached and sees the caller's own address."""
    return (
        call(caller.sandbox, called.address.ip) == str(caller.address.ip)
        and call(caller.sandbox, called.address6.ip) == str(caller.address6.ip)
    )  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_containers_on_one_link_reach_each_other(cluster: Cluster, backend: Backend) -> None:
    cluster.meet(dcos=backend)
    one, other, third = (on(member) for member in cluster.near)
    assert sees(one, other)
    assert sees(other, one)
    assert sees(third, one)


def outer_packets(member: Member, caller: Container, called: Container) -> int:
    """Count the VXLAN packets that a call makes leave a host."""
    member.sh("nft add table ip watch")
    member.sh("nft add chain ip watch out '{ type filter hook output priority 0; }'")
    member.sh("nft add rule ip watch out udp dport 64000 counter")
    call(caller.sandbox, called.address.ip)
    counted = re.search(r"packets (\d+)", member.sh("nft list chain ip watch out"))
    member.sh("nft delete table ip watch")
    return int(counted[1]) if counted else -1


def test_vxlan_encapsulates_and_direct_does_not(cluster: Cluster) -> None:
    cluster.meet(dcos="vxlan")
    first, second = cluster.near[:2]
    one, other = on(first), on(second)
    assert outer_packets(first, one, other) > 0
    cluster.meet(dcos="direct")
    assert outer_packets(first, one, other) == 0


def test_auto_goes_by_vxlan_where_a_router_stands_between(cluster: Cluster) -> None:
    cluster.meet(dcos="auto")
    first, second = cluster.near[:2]
    one, other, far = on(first), on(second), on(cluster.far)
    assert sees(one, far)
    assert sees(far, other)
    assert outer_packets(first, one, other) == 0
    assert outer_packets(first, one, far) > 0


def test_each_overlay_has_its_own_backend(cluster: Cluster) -> None:
    cluster.meet(dcos="vxlan", dev="direct")
    first, second = cluster.near[:2]
    one, other, dev, dev2 = on(first), on(second), on(first, "dev"), on(second, "dev")
    assert sees(one, other)
    assert sees(dev, dev2)
    assert outer_packets(first, one, other) > 0
    assert outer_packets(first, dev, dev2) == 0


def test_direct_says_whom_it_does_not_reach(cluster: Cluster) -> None:
    cluster.meet(dcos="direct")
    first = cluster.near[0]
    one, far = on(first), on(cluster.far)
    assert is_cut_off(one.sandbox, far.address.ip)
    assert "unreachable 9.0.4.0/24 proto 64" in first.sh("ip route")
    assert call(one.sandbox, far.address6.ip), "IPv6 travels by VXLAN whatever the backend"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_host_reaches_containers_of_other_agents(cluster: Cluster, backend: Backend) -> None:
    """Health checks: its address is that of its VTEP, or its own where nothing is encapsulated."""
    cluster.meet(dcos=backend)
    first, second = cluster.near[:2]
    other = on(second)
    assert call(first, other.address.ip) == ("44.128.0.1" if backend == "vxlan" else "10.0.0.1")
    assert call(first, other.address6.ip) == "fd01:a::1"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_container_reaches_other_agents(cluster: Cluster, backend: Backend) -> None:
    cluster.meet(dcos=backend)
    first, second = cluster.near[:2]
    one = on(first)
    with Server(second):
        assert call(one.sandbox, second.agent) == ("44.128.0.1" if backend == "vxlan" else "10.0.0.1")


def test_strict_reverse_path_filters_are_no_hindrance(cluster: Cluster) -> None:
    for member in cluster.members:
        member.sysctl("ipv4/conf/all/rp_filter", 1)
        member.sysctl("ipv4/conf/default/rp_filter", 1)
    cluster.meet(dcos="vxlan")
    first, second = cluster.near[:2]
    one, other = on(first), on(second)
    assert sees(one, other)
    with Server(second):
        assert call(one.sandbox, second.agent)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dockers_own_rules_are_no_hindrance(cluster: Cluster, backend: Backend) -> None:
    first, second = cluster.near[:2]
    with docker.docker_on(first), docker.docker_on(second):
        cluster.meet(dcos=backend)
        one, other = on(first), on(second)
        assert sees(one, other)
        assert sees(other, one)


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_overlay_does_not_get_in_from_another_host(cluster: Cluster, backend: Backend) -> None:
    cluster.meet(dcos=backend, dev=backend)
    first, second = cluster.near[:2]
    dcos, dev, dev2 = on(second), on(first, "dev"), on(second, "dev")
    for called in (dcos.address.ip, dcos.address6.ip):
        assert is_cut_off(dev.sandbox, called)
    assert sees(dev, dev2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dockers_own_containers_do_not_get_into_an_overlay_on_another_host(
    cluster: Cluster, backend: Backend
) -> None:
    """Docker masquerades them: they would come as their host, which may get in."""
    first, second = cluster.near[:2]
    with docker.docker_on(first) as dockers:
        for tool in docker.SUBNETS:
            first.sh(f"{tool} -I FORWARD -i docker0 -j ACCEPT", f"{tool} -I FORWARD -o docker0 -j ACCEPT")
        cluster.meet(dcos=backend)
        other = on(second)
        with Server(cluster.switch):
            assert call(dockers, "10.0.0.254"), "what they may reach, they reach"
        for address in other.link.addresses:
            assert is_cut_off(dockers, address.ip)
            assert call(first, address.ip)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strangers_on_the_link_do_not_get_in(cluster: Cluster, backend: Backend) -> None:
    """One with an address of its own, and one that takes an address of a subnet that no agent has."""
    cluster.meet(dcos=backend)
    called = on(cluster.near[1])
    with Namespace() as stranger:
        wire(stranger, "eth0", cluster.switch, "port9")
        cluster.switch.sh("ip link set port9 master lan")
        stranger.sh("ip addr add 10.0.0.9/24 dev eth0", "ip addr add 9.0.77.9/32 dev eth0")
        cluster.near[1].sh("ip route add 9.0.77.0/24 via 10.0.0.9")
        for source in ("10.0.0.9", "9.0.77.9"):
            stranger.sh(f"ip route replace 9.0.2.0/24 via 10.0.0.2 src {source}")
            assert is_cut_off(stranger, called.address.ip)


def test_an_internal_overlay_spans_hosts_and_nobody_else_gets_in(cluster: Cluster) -> None:
    for backend in BACKENDS:
        for member in cluster.near:
            member.know(cluster.others(member), {"dcos": backend}, place("dcos", member.number, internal=True))
            member.reconcile()
        first, second = cluster.near[:2]
        number = BACKENDS.index(backend)
        one, other = on(first, number=number), on(second, number=number)
        assert sees(one, other)
        assert is_cut_off(one.sandbox, "10.0.0.3")
        assert is_cut_off(cluster.near[2], other.address.ip)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_internal_overlay_spans_hosts_beside_docker_too(cluster: Cluster, backend: Backend) -> None:
    """FORWARD drops what nobody accepts, and its containers get out of their host to their own alone."""
    first, second = cluster.near[:2]
    with docker.docker_on(first), docker.docker_on(second) as dockers:
        for member in (first, second):
            member.know(cluster.others(member), {"dcos": backend}, place("dcos", member.number, internal=True))
            member.reconcile()
        one, other = on(first), on(second)
        assert sees(one, other)
        assert sees(other, one)
        with Server(cluster.switch), Server(second):
            for address in (cluster.router, second.agent):
                assert is_cut_off(one.sandbox, address)
        assert is_cut_off(dockers, other.address.ip)


def test_a_published_port_answers_containers_of_other_agents(cluster: Cluster) -> None:
    cluster.meet(dcos="vxlan")
    first, second = cluster.near[:2]
    one, other = on(first), on(second)
    second.sh(
        "nft add table ip ports",
        "nft add chain ip ports in '{ type nat hook prerouting priority dstnat; }'",
        f"nft add rule ip ports in ip daddr 10.0.0.2 tcp dport 8080 dnat to {other.address.ip}:{PORT}",
    )
    assert call(one.sandbox, "10.0.0.2", 8080)


def test_a_backend_is_changed_under_traffic(cluster: Cluster) -> None:
    """The hosts learn of it one after the other; what is on its way meanwhile arrives by the other path."""
    cluster.meet(dcos="vxlan")
    first, second = cluster.near[:2]
    one, other = on(first), on(second)
    argv = ["ping", "-i", "0.01", "-c", "300", "-q", "-W", "2", str(other.address.ip)]
    changes: list[Backend] = []
    with one.sandbox.run(subprocess.Popen, argv, stdout=subprocess.PIPE, text=True) as pinging:
        for backend in cycle(CHANGES):
            if pinging.poll() is not None:
                break
            cluster.meet(dcos=backend)
            changes.append(backend)
        told, _ = pinging.communicate()
    found = re.search(r"300 packets transmitted, (\d+) received", told)
    assert found, told
    assert len(changes) > 2
    assert int(found[1]) >= 298


def test_of_what_does_not_fit_the_sender_is_told(cluster: Cluster) -> None:
    """IPv4 goes directly and whole; IPv6 is encapsulated, and a container that sends too much learns the MTU."""
    cluster.meet(dcos="direct")
    first, second = cluster.near[:2]
    for member in (first, second):
        member.sh("ip link set d-dcos mtu 1500")
    one, other = on(first), on(second)
    for container in (one, other):
        container.sandbox.sh("ip link set eth0 mtu 1500")
    for member in (first, second):
        for port in re.findall(r"dni[0-9a-f]{11}", member.sh("ip -o link show master d-dcos")):
            member.sh(f"ip link set {port} mtu 1500")
    one.sandbox.sh(f"ping -c 1 -W 2 -M do -s 1472 {other.address.ip}")
    one.sandbox.sh(f"ping -c 5 -i 0.2 -W 2 -s 1452 {other.address6.ip}")
    assert "mtu 1450" in one.sandbox.sh(f"ip -6 route get {other.address6.ip}")


def test_an_underlay_too_narrow_for_ipv6_carries_ipv4_all_the_same(cluster: Cluster) -> None:
    """As a VPN may be, with 1280 bytes of its own: VXLAN leaves less than IPv6 takes for a link."""
    first, second = cluster.near[:2]
    for mtu in (1300, 1500, 1300):
        for member in (first, second):
            member.sh(f"ip link set eth0 mtu {mtu}")
            member.know(cluster.others(member), {"dcos": "vxlan"})
            member.reconcile()
        assert first.reconcile() == []
        assert ("unreachable fd01:b:0:0:2::/80" in first.sh("ip -6 route")) == (mtu == 1300)
        with Container(first, place("dcos", 1)) as one, Container(second, place("dcos", 2)) as other:
            assert call(one.sandbox, other.address.ip) == str(one.address.ip)
            assert mtu == 1300 or sees(one, other)


def test_an_agent_ip_that_no_link_carries_is_said(cluster: Cluster) -> None:
    first = cluster.near[0]
    first.know(cluster.others(first), {"dcos": "vxlan"})
    first.sh("ip addr del 10.0.0.1/24 dev eth0")
    with pytest.raises(KernelError, match=r"no link of this host carries the agent IP 10\.0\.0\.1"):
        first.reconcile()
