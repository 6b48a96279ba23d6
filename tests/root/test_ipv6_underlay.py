# SPDX-License-Identifier: Apache-2.0
"""Agents that know each other by IPv6 addresses alone: overlays of both families, by whatever backend."""

from __future__ import annotations

import re
import subprocess
from itertools import cycle

import pytest

from dni_driver.core.overlays import Backend
from tests.root import docker
from tests.root.cluster import FOUR, SIX, Cluster, Member, peer, place
from tests.root.ground import Namespace, wire
from tests.root.packets import Server, call, is_cut_off
from tests.root.town import Container

pytestmark = pytest.mark.root

BACKENDS: tuple[Backend, ...] = ("vxlan", "direct", "auto")
FULL = {"vxlan": 1430, "auto": 1430, "direct": 1500}
HEADERS = {4: 28, 6: 48}
"""Bytes of IP and ICMP, by family."""


def on(member: Member, name: str = "dcos", number: int = 0, mtu: int = 1430) -> Container:
    return member.container(place(name, member.number, mtu=mtu), number)


def sees(caller: Container, called: Container) -> bool:
    """Tell that the called container, by IPv4 and IPv6, is reached and sees the caller's own address."""
    return (
        call(caller.sandbox, called.address.ip) == str(caller.address.ip)
        and call(caller.sandbox, called.address6.ip) == str(caller.address6.ip)
    )  # fmt: skip


WAYS = (
    "ip route show table all",
    "ip -6 route show table all",
    "ip -4 rule",
    "ip -6 rule",
    "ip neigh show nud permanent",
)
OF_VTEP = "bridge fdb show dev vtep1024"
_BY_ITSELF = ("fe80::", "ff00::", "table local", "multicast")
"""What the kernel gives links in its own time."""


def listed(member: Member, *listings: str) -> list[str]:
    """Answer what a host's kernel knows of ways to agents."""
    lines = (line for one in listings or (*WAYS, OF_VTEP) for line in member.sh(one).splitlines())
    found = (re.sub(r"^\d+:\t", "", line).rstrip() for line in lines)
    return sorted(line for line in found if not any(text in line for text in _BY_ITSELF))


def about(member: Member, number: int) -> set[str]:
    """Answer what a host's kernel has about the agent of a number."""
    own = (f"9.0.{number}.", f":0:0:{number}::", f"44.128.0.{number}", f"fd01:a::{number}", f"fd00::{number} ")
    mac = f"70:b3:d5:80:00:{number:02x}"
    return {line for line in listed(member) if any(text in line for text in (*own, mac))}


def test_the_vtep_speaks_ipv6_from_the_agent_ip_and_with_checksums(cluster6: Cluster) -> None:
    cluster6.meet(dcos="vxlan")
    made = cluster6.near[0].sh("ip -d link show vtep1024")
    for detail in (
        "vxlan id 1024 local fd00::1 ", "dstport 64000", "70:b3:d5:80:00:01", "mtu 1430", ",UP",
        "noudp6zerocsumtx", "noudp6zerocsumrx",
    ):  # fmt: skip
        assert detail in made


def test_by_vxlan_the_entries_are_as_over_ipv4_but_for_the_agents_addresses(cluster6: Cluster) -> None:
    cluster6.meet(dcos="vxlan")
    first = cluster6.near[0]
    assert about(first, 2) == {
        "9.0.2.0/24 via 44.128.0.2 dev vtep1024 proto 64",
        "fd01:b:0:0:2::/80 via fd01:a::2 dev vtep1024 proto 64 metric 1024 pref medium",
        "fd00::2 via fd01:a::2 dev vtep1024 table 42 proto 64 metric 1024 pref medium",
        "44.128.0.2 dev vtep1024 lladdr 70:b3:d5:80:00:02 PERMANENT",
        "fd01:a::2 dev vtep1024 lladdr 70:b3:d5:80:00:02 PERMANENT",
        "70:b3:d5:80:00:02 dst fd00::2 self permanent",
    }
    assert "from fd01:b::/64 lookup 42 proto 64" in listed(first)
    assert not any("from 9." in line for line in listed(first)), "no agent has an IPv4 address to be found"


def test_directly_both_families_go_to_the_agents_own_address(cluster6: Cluster) -> None:
    cluster6.meet(dcos="direct")
    first = cluster6.near[0]
    assert {line for line in about(first, 2) if line.startswith(("9.", "fd01:b"))} == {
        "9.0.2.0/24 via inet6 fd00::2 dev eth0 proto 64 src 44.128.0.1",
        "fd01:b:0:0:2::/80 via fd00::2 dev eth0 proto 64 src fd00::1 metric 1024 pref medium",
    }
    assert not any("table 42" in line for line in listed(first))


@pytest.mark.parametrize("backend", BACKENDS)
def test_containers_reach_each_other_and_packets_of_full_size_get_through(
    cluster6: Cluster, backend: Backend
) -> None:
    full = FULL[backend]
    for member in cluster6.members:
        member.know(cluster6.others(member), {"dcos": backend}, place("dcos", member.number, mtu=full))
        member.reconcile()
    one, other, third = (on(member, mtu=full) for member in cluster6.near)
    assert sees(one, other)
    assert sees(other, one)
    assert sees(third, one)
    for target in (other.address.ip, other.address6.ip):
        ping = f"ping -c 1 -W 2 -M do {target} -s"
        one.sandbox.sh(f"{ping} {full - HEADERS[target.version]}")
        with pytest.raises(AssertionError, match=r"(?i)message too long"):
            one.sandbox.sh(f"{ping} {full - HEADERS[target.version] + 1}")
    assert all(member.reconcile() == [] for member in cluster6.members), "what is right is left alone"


def outer_packets(member: Member, caller: Container, address: object) -> int:
    """Count the VXLAN packets that a call makes leave a host."""
    member.sh(
        "nft add table ip6 watch",
        "nft add chain ip6 watch out '{ type filter hook output priority 0; }'",
        "nft add rule ip6 watch out udp dport 64000 counter",
    )
    assert call(caller.sandbox, address)
    counted = re.search(r"packets (\d+)", member.sh("nft list chain ip6 watch out"))
    member.sh("nft delete table ip6 watch")
    return int(counted[1]) if counted else -1


def test_auto_encapsulates_only_where_a_router_stands_between(cluster6: Cluster) -> None:
    cluster6.meet(dcos="auto")
    first, second = cluster6.near[:2]
    one, other, far = on(first), on(second), on(cluster6.far)
    assert sees(far, one)
    for near, distant in ((other.address.ip, far.address.ip), (other.address6.ip, far.address6.ip)):
        assert outer_packets(first, one, near) == 0
        assert outer_packets(first, one, distant) > 0


def test_what_direct_does_not_reach_is_unreachable_in_both_families(cluster6: Cluster) -> None:
    cluster6.meet(dcos="direct")
    first = cluster6.near[0]
    one, far = on(first), on(cluster6.far)
    assert is_cut_off(one.sandbox, far.address.ip)
    assert is_cut_off(one.sandbox, far.address6.ip)
    assert "unreachable 9.0.4.0/24 proto 64" in listed(first)
    assert any(line.startswith("unreachable fd01:b:0:0:4::/80 dev lo proto 64") for line in listed(first))
    cluster6.meet(dcos="auto")
    assert sees(one, far)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_host_reaches_containers_of_other_agents(cluster6: Cluster, backend: Backend) -> None:
    """Health checks: other addresses that the host has are not taken for it."""
    first, second = cluster6.near[:2]
    first.sh("ip addr add fd01:0:0:1::9/64 dev eth0 nodad", "ip addr add 192.0.2.9/24 dev eth0")
    cluster6.meet(dcos=backend)
    other = on(second)
    assert call(first, other.address.ip) == "44.128.0.1"
    assert call(first, other.address6.ip) == ("fd01:a::1" if backend == "vxlan" else "fd00::1")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_container_reaches_other_agents_and_the_outside(cluster6: Cluster, backend: Backend) -> None:
    cluster6.meet(dcos=backend)
    first, second = cluster6.near[:2]
    one = on(first)
    with Server(second):
        assert call(one.sandbox, second.agent) == ("fd01:a::1" if backend == "vxlan" else "fd00::1")
    with Server(cluster6.switch):
        assert call(one.sandbox, cluster6.router) == "fd00::1"


@pytest.mark.parametrize("backend", BACKENDS)
def test_strangers_on_the_link_do_not_get_in(cluster6: Cluster, backend: Backend) -> None:
    """One with an address of its own, and one that takes an address of a subnet that no agent has."""
    cluster6.meet(dcos=backend)
    second = cluster6.near[1]
    called = on(second)
    with Namespace() as stranger:
        wire(stranger, "eth0", cluster6.switch, "port9")
        cluster6.switch.sh("ip link set port9 master lan")
        stranger.sh("ip addr add fd00::9/64 dev eth0 nodad", "ip addr add fd01:b:0:0:77::9/128 dev eth0 nodad")
        stranger.sh("ip addr add 9.0.77.9/32 dev eth0", "ip addr add 44.128.0.9/32 dev eth0")
        second.sh(
            "ip route add 9.0.77.0/24 via inet6 fd00::9 dev eth0", "ip route add fd01:b:0:0:77::/80 via fd00::9"
        )
        for source in ("fd00::9", "fd01:b:0:0:77::9"):
            stranger.sh(f"ip route replace fd01:b:0:0:2::/80 via fd00::2 src {source}")
            assert is_cut_off(stranger, called.address6.ip)
        for source in ("9.0.77.9", "44.128.0.9"):
            stranger.sh(f"ip route replace 9.0.2.0/24 via inet6 fd00::2 dev eth0 src {source}")
            assert is_cut_off(stranger, called.address.ip)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dockers_own_rules_are_no_hindrance_and_other_overlays_do_not_get_in(
    cluster6: Cluster, backend: Backend
) -> None:
    first, second = cluster6.near[:2]
    with docker.docker_on(first), docker.docker_on(second):
        cluster6.meet(dcos=backend, dev=backend)
        one, other, dev = on(first), on(second), on(first, "dev")
        assert sees(one, other)
        assert sees(other, one)
        for called in (other.address.ip, other.address6.ip):
            assert is_cut_off(dev.sandbox, called)


def test_a_backend_is_changed_under_traffic(cluster6: Cluster) -> None:
    cluster6.meet(dcos="vxlan")
    first, second = cluster6.near[:2]
    one, other = on(first), on(second)
    pings = [
        one.sandbox.run(subprocess.Popen, ["ping", "-i", "0.01", "-c", "300", "-q", "-W", "2", str(address.ip)],
                        stdout=subprocess.PIPE, text=True)
        for address in (other.address, other.address6)
    ]  # fmt: skip
    changes = 0
    for backend in cycle(BACKENDS[::-1]):
        if all(ping.poll() is not None for ping in pings):
            break
        cluster6.meet(dcos=backend)
        changes += 1
    assert changes > 2
    for ping in pings:
        told, _ = ping.communicate()
        found = re.search(r"300 packets transmitted, (\d+) received", told)
        assert found, told
        assert int(found[1]) >= 298


def test_strict_reverse_path_filters_let_containers_through(cluster6: Cluster) -> None:
    for member in cluster6.members:
        member.sysctl("ipv4/conf/all/rp_filter", 1)
        member.sysctl("ipv4/conf/default/rp_filter", 1)
    for backend in BACKENDS:
        cluster6.meet(dcos=backend)
        number = BACKENDS.index(backend)
        one, other = (on(member, number=number) for member in cluster6.near[:2])
        assert sees(one, other)
        assert sees(other, one)


def test_agents_that_come_to_have_addresses_of_the_other_family_reach_each_other_as_before(cluster: Cluster) -> None:
    cluster.meet(dcos="auto")
    one, other = (on(member) for member in cluster.near[:2])
    assert sees(one, other)
    before = listed(cluster.near[0])
    for family, mtu in ((SIX, 1430), (FOUR, 1450)):
        for member in cluster.near:
            member.agent = family.near.format(member.number)
            member.as_peer = peer(member.number, member.agent)
            if family is SIX:
                member.sh(SIX.put_on("eth0", member.agent))
        for member in cluster.near:
            member.know([near.as_peer for near in cluster.near if near is not member], {"dcos": "vxlan"})
            member.reconcile()
        first = cluster.near[0]
        assert f"mtu {mtu}" in first.sh("ip link show vtep1024")
        assert sees(one, other)
        theirs = [line for line in listed(first) if "proto 64" in line or "dst " in line]
        assert [line for line in theirs if ("10.0.0." if family is SIX else "fd00::") in line] == []
    cluster.meet(dcos="auto")
    cluster.near[0].sh("ip -6 addr del fd00::1/64 dev eth0")
    assert listed(cluster.near[0]) == before


FOREIGN = (
    "ip -6 route add fd77::/64 via fd00::9 proto static",
    "ip -6 route add fd78::/64 via fd00::9 table 42",
    "ip -6 rule add from fd77::/64 lookup 42",
    "ip route add 192.0.2.0/24 via inet6 fd00::9 dev eth0 proto static",
    "ip neigh add fd00::9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
)
DAMAGE = (
    "ip link del vtep1024",
    "ip -6 route flush proto 64",
    "ip route flush proto 64",
    "ip -6 route flush table 42",
    "ip -6 route replace fd01:b:0:0:2::/80 via fd00::2 dev eth0 proto 64",
    "ip route add 9.0.55.0/24 via inet6 fd00::2 dev eth0 proto 64",
    "ip -6 rule del from fd01:b::/64 lookup 42",
    "bridge fdb del 70:b3:d5:80:00:02 dev vtep1024 dst fd00::2 self",
    "nft flush set inet dni peer-subnets6",
    "nft add element inet dni peer-agents6 '{ fd00::77 }'",
)


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_somebody_else_damaged_is_mended_and_nothing_else_touched(cluster6: Cluster, damage: str) -> None:
    cluster6.meet(dcos="auto")
    first = cluster6.near[0]
    first.sh(*(one for one in FOREIGN if "flush table 42" not in damage or "table 42" not in one))
    before = listed(first), first.sh("nft -s list table inet dni")
    first.sh(damage)
    if "set inet dni" in damage or "element" in damage:
        first.now += 61
    assert first.reconcile()
    assert (listed(first), first.sh("nft -s list table inet dni")) == before
    assert not first.run(first.kernel.observe, first.wanted).peers
    assert first.reconcile() == []


def test_who_leaves_the_cluster_has_nothing_left_of_it_and_what_is_foreign_stays(cluster6: Cluster) -> None:
    first, second, third = cluster6.near
    first.want(place("dcos", 1))
    first.reconcile()
    first.sh(*FOREIGN)
    alone = listed(first, *WAYS)
    cluster6.meet(dcos="auto")
    assert about(first, 2)
    first.know([third.as_peer], {"dcos": "auto"})
    first.reconcile()
    assert about(first, 2) == set()
    assert about(first, 3)
    first.want(place("dcos", 1))
    first.reconcile()
    assert listed(first, *WAYS) == alone
    assert second.reconcile() == []
