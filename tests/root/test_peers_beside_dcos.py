# SPDX-License-Identifier: Apache-2.0
"""Beside hosts and programs of DC/OS: one overlay with theirs, and nothing of their data plane is touched."""

from __future__ import annotations

from ipaddress import IPv4Address

import msgspec
import pytest

from tests.root.cluster import Cluster, Member, peer, place
from tests.root.ground import Namespace
from tests.root.listings import _BY_ITSELF, LISTINGS
from tests.root.packets import Server, call, is_cut_off

pytestmark = pytest.mark.root


def dcos_host(cluster: Cluster, host: Namespace, container: Namespace) -> None:
    """Program a host by hand as dcos-net does (number 5, at 10.0.0.5), with a container on a plain bridge."""
    host.sysctl("ipv4/ip_forward", 1)
    cluster.switch.sh(f"ip link add port5 type veth peer name eth0 netns {host.path}")
    cluster.switch.sh("ip link set port5 master lan up")
    host.sh(
        "ip link set eth0 up",
        "ip addr add 10.0.0.5/24 dev eth0",
        "ip link add vtep1024 type vxlan id 1024 dstport 64000",
        "ip link set vtep1024 address 70:b3:d5:80:00:05 up",
        "ip addr replace 44.128.0.5/20 dev vtep1024",
        "ip rule add from 9.0.0.0/8 lookup 42",
        "ip neigh replace 44.128.0.1 lladdr 70:b3:d5:80:00:01 dev vtep1024 nud permanent",
        "ip route replace 9.0.1.0/24 via 44.128.0.1",
        "bridge fdb replace 70:b3:d5:80:00:01 dev vtep1024 dst 10.0.0.1 self",
        "ip route replace 10.0.0.1/32 via 44.128.0.1 table 42",
        "ip link add d-dcos type bridge",
        "ip link set d-dcos mtu 1420 up",
        "ip addr add 9.0.5.129/25 dev d-dcos",
        f"ip link add veth0 type veth peer name eth0 netns {container.path}",
        "ip link set veth0 master d-dcos up",
    )
    container.sh("ip link set eth0 up", "ip addr add 9.0.5.130/25 dev eth0", "ip route add default via 9.0.5.129")


def test_a_host_of_dcos_and_one_of_dni_are_on_one_overlay(cluster: Cluster) -> None:
    first = cluster.near[0]
    with Namespace() as host, Namespace() as theirs:
        dcos_host(cluster, host, theirs)
        first.know([peer(5, "10.0.0.5", ["dcos"])], {"dcos": "vxlan"})
        first.reconcile()
        ours = first.container(place("dcos", 1))
        with Server(theirs):
            assert call(ours.sandbox, "9.0.5.130") == "9.0.1.130"
            assert call(first, "9.0.5.130") == "44.128.0.1"
        assert call(theirs, ours.address.ip) == "9.0.5.130"
        assert call(host, ours.address.ip) == "44.128.0.5"
        with Server(first):
            assert call(theirs, "10.0.0.1"), "a container of theirs reaches our host"
        with Server(host):
            assert call(ours.sandbox, "10.0.0.5") == "44.128.0.1", "and ours theirs, under our VTEP's address"


BY_DCOS_NET = (
    "ip link add vtep1024 type vxlan id 1024 dstport 64000",
    "ip link set vtep1024 address 70:b3:d5:80:00:01 up",
    "ip addr replace 44.128.0.1/20 dev vtep1024",
    "ip -6 addr replace fd01:a::1/64 dev vtep1024 nodad",
    "ip rule add from 9.0.0.0/8 lookup 42",
    "ip neigh replace 44.128.0.5 lladdr 70:b3:d5:80:00:05 dev vtep1024 nud permanent",
    "ip route replace 9.0.5.0/24 via 44.128.0.5",
    "bridge fdb replace 70:b3:d5:80:00:05 dev vtep1024 dst 10.0.0.5 self",
    "ip route replace 10.0.0.5/32 via 44.128.0.5 table 42",
    "ip neigh replace fd01:a::5 lladdr 70:b3:d5:80:00:05 dev vtep1024 nud permanent",
    "ip -6 route replace fd01:b:0:0:5::/80 via fd01:a::5",
    "iptables -w -A FORWARD -j ACCEPT",
)
BY_MESOS = (
    "ipset create -exist overlay hash:net counters",
    *(f"ipset add -exist overlay {net}" for net in ("0.0.0.0/1", "128.0.0.0/1", "127.0.0.0/1", "9.0.0.0/8 nomatch")),
    "iptables -w -t nat -A POSTROUTING -s 9.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE",
    "ip link add m-dcos type bridge",
    "ip link set m-dcos mtu 1420 up",
    "ip addr add 9.0.1.1/25 dev m-dcos",
)
THEIRS = (
    *LISTINGS, "ip -d addr show dev vtep1024", "ip addr show dev m-dcos", "iptables -t nat -S", "ipset list -terse",
)  # fmt: skip


def left_to_others(member: Member) -> dict[str, list[str]]:
    """Answer all that dcos-net and Mesos keep on a host: everything but what is of our bridge, or learned."""
    shown = {}
    for listing in THEIRS:
        lines = member.sh(listing).splitlines()
        passing = ("d-dcos", "references", "valid_lft", *_BY_ITSELF)
        shown[listing] = sorted(line.rstrip() for line in lines if not any(one in line for one in passing))
    return shown


def serve_beside_dcos(member: Member) -> None:
    """Want what records of DC/OS call for once it is configured: no ways to others, no masquerade, no m-dcos."""
    here = place("dcos", member.number, mtu=1420)
    policy = msgspec.structs.replace(here.policy, masquerade=False, bridges=("d-dcos",), admitted=("m-dcos",))
    member.want(type(here)(here.bridge, policy))
    member.wanted = msgspec.structs.replace(member.wanted, agent=IPv4Address(member.agent), hosted=True)


def test_beside_dcos_net_nothing_of_its_data_plane_is_touched(cluster: Cluster) -> None:
    """Every command is one that dcos-net and the overlay module of Mesos run; on the far host DC/OS is alone."""
    first = cluster.near[0]
    with Namespace() as host, Namespace() as theirs, Namespace() as of_mesos:
        dcos_host(cluster, host, theirs)
        for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            first.sysctl(key, 1)
        first.sh(*BY_DCOS_NET, *BY_MESOS)
        _container_of_mesos(first, of_mesos)
        before = left_to_others(first)
        assert "9.0.5.0/24 via 44.128.0.5 dev vtep1024" in before["ip route show table all"]

        serve_beside_dcos(first)
        first.reconcile()
        assert left_to_others(first) == before
        assert first.reconcile() == []
        assert left_to_others(first) == before
        assert "9.0.1.129/25" in first.sh("ip addr show dev d-dcos")

        ours = first.container(place("dcos", 1, mtu=1420))
        assert call(theirs, ours.address.ip) == "9.0.5.130", "a container of the far side gets in"
        assert call(host, ours.address.ip) == "44.128.0.5", "and the far host, for its health checks"
        assert call(of_mesos, ours.address.ip) == "9.0.1.2"
        with Server(theirs), Server(host), Server(of_mesos), Server(cluster.switch):
            assert call(ours.sandbox, "9.0.5.130") == "9.0.1.130"
            assert call(ours.sandbox, "9.0.1.2") == "9.0.1.130"
            assert call(ours.sandbox, "10.0.0.5") == "44.128.0.1", "to another agent under the VTEP's address"
            assert call(ours.sandbox, cluster.router) == "10.0.0.1", "and to the outside under the host's"
            cluster.switch.sh("ip route add 9.0.1.0/24 via 10.0.0.1")
            assert is_cut_off(cluster.switch, ours.address.ip)
            first.sh(BY_MESOS[5].replace(" -A ", " -D "))
            assert call(ours.sandbox, cluster.router) == "9.0.1.130", (
                "it was Mesos' rule that did that, not one of dni"
            )
            first.sh(BY_MESOS[5])
        first.reconcile()
        assert left_to_others(first) == before, "nor after all that"


def _container_of_mesos(host: Namespace, container: Namespace) -> None:
    """Attach a container to the bridge of the Mesos half as CNI's own plugin does."""
    host.sh(
        f"ip link add veth0 type veth peer name eth0 netns {container.path}", "ip link set veth0 master m-dcos up"
    )
    container.sh("ip link set eth0 up", "ip addr add 9.0.1.2/25 dev eth0", "ip route add default via 9.0.1.1")
