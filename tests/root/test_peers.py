# SPDX-License-Identifier: Apache-2.0
"""What the kernel knows of other agents follows the records, and nothing else is touched."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest

from dni_driver.core.errors import KernelError
from dni_driver.core.overlays import Backend
from dni_driver.core.peers import Peer
from dni_driver.core.wanted import Wanted
from dni_driver.kernel import Kernel
from dni_driver.kernel.firewall import firewall
from dni_driver.kernel.peers import batches
from dni_driver.kernel.peers.neighbourhood import LeftToTheAgent
from tests.root.cluster import Cluster, Member, peer, place
from tests.root.ground import cover
from tests.root.listings import LISTINGS, about, first, listed
from tests.root.packets import call
from tests.root.town import overlay

pytestmark = pytest.mark.root


__all__ = ["first"]


FOREIGN = (
    "ip route add 192.0.2.0/24 via 10.0.0.9 proto static",
    "ip route add 198.51.100.0/24 via 44.128.0.77 proto boot",
    "ip route add 192.0.2.5/32 via 10.0.0.9 table 42",
    "ip -6 route add fd77::/64 dev eth0",
    "ip rule add from 192.0.2.0/24 lookup 42",
    "ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
    "bridge fdb add 02:00:00:00:00:99 dev vtep1024 dst 10.0.0.9 self dynamic",
)


def test_the_vtep_is_as_dcos_net_makes_it(first: Member) -> None:
    made = first.sh("ip -d link show vtep1024")
    for detail in ("vxlan id 1024", "dstport 64000", "70:b3:d5:80:00:01", "mtu 1450", ",UP", "alias dni vtep"):
        assert detail in made
    assert "nolearning" not in made
    addresses = first.sh("ip addr show vtep1024")
    assert "44.128.0.1/20" in addresses
    assert "fd01:a::1/64" in addresses


def test_the_entries_are_as_dcos_net_makes_them(first: Member) -> None:
    assert set(about(first, 4)) == {
        "10.64.4.0/24 via 44.128.0.4 dev vtep1024 proto 64",
        "fd01:d:0:0:4::/80 via fd01:a::4 dev vtep1024 proto 64 metric 1024 pref medium",
        "9.0.4.0/24 via 44.128.0.4 dev vtep1024 proto 64",
        "10.0.1.4 via 44.128.0.4 dev vtep1024 table 42 proto 64",
        "fd01:b:0:0:4::/80 via fd01:a::4 dev vtep1024 proto 64 metric 1024 pref medium",
        "44.128.0.4 dev vtep1024 lladdr 70:b3:d5:80:00:04 PERMANENT",
        "fd01:a::4 dev vtep1024 lladdr 70:b3:d5:80:00:04 PERMANENT",
        "70:b3:d5:80:00:04 dst 10.0.1.4 self permanent",
    }
    assert "from 9.0.0.0/8 lookup 42 proto 64" in listed(first)


def test_no_peer_takes_this_hosts_own_network_away(cluster: Cluster) -> None:
    """As it is on a site that has numbered its hosts from the addresses of the default overlay."""
    first = cluster.near[0]
    first.sh("ip addr add 9.0.2.77/24 dev eth0")
    first.know(cluster.others(first), {"dcos": "vxlan"})
    first.reconcile()
    assert "9.0.2.0/24 dev eth0 proto kernel" in first.sh("ip route")
    assert "9.0.3.0/24 via 44.128.0.3" in first.sh("ip route")


def test_a_peer_that_leaves_is_gone_and_nothing_else(cluster: Cluster, first: Member) -> None:
    first.sh(*FOREIGN)
    before = set(listed(first))
    assert about(first, 2)
    of_second = set(about(first, 2))
    first.know([cluster.near[2].as_peer, cluster.far.as_peer], {"dcos": "vxlan", "dev": "auto"})
    first.reconcile()
    assert about(first, 2) == []
    assert before - set(listed(first)) == of_second
    elements = first.sh("nft list table inet dni")
    assert "9.0.2.0" not in elements
    assert "10.0.0.2" not in elements
    assert "9.0.3.0" in elements


def test_an_agent_that_leaves_the_cluster_has_nothing_left_of_it(first: Member) -> None:
    first.sh(*FOREIGN[:1], *FOREIGN[2:])
    first.wanted = msgspec.structs.replace(first.wanted, vtep=None, peers=[])
    first.reconcile()
    left = [line for line in listed_without_vtep(first) if "proto 64" in line or "vtep1024" in line]
    assert left == []
    assert "192.0.2.0/24 via 10.0.0.9 dev eth0 proto static" in first.sh("ip route")
    assert "192.0.2.5 via 10.0.0.9 dev eth0" in first.sh("ip route show table 42")
    assert "from 192.0.2.0/24 lookup 42" in first.sh("ip rule")
    assert "peer-subnets" not in first.sh("nft list table inet dni")


def listed_without_vtep(member: Member) -> list[str]:
    return [line for listing in LISTINGS[:-1] for line in member.sh(listing).splitlines()]


DAMAGE = [
    "ip link del vtep1024",
    "ip link set vtep1024 down",
    "ip link set vtep1024 mtu 1400",
    "ip addr flush dev vtep1024 scope global",
    "ip addr add 192.0.2.9/24 dev vtep1024",
    "ip route flush proto 64",
    "ip route flush table 42",
    "ip -6 route flush proto 64",
    "ip route del 9.0.2.0/24",
    "ip route add 9.0.55.0/24 via 44.128.0.2 proto 64",
    "ip neigh flush dev vtep1024 nud permanent",
    "ip neigh del 44.128.0.2 dev vtep1024",
    "bridge fdb del 70:b3:d5:80:00:02 dev vtep1024 dst 10.0.0.2 self",
    "ip rule del from 9.0.0.0/8 lookup 42",
    "ip rule add from 10.99.0.0/16 lookup 42 protocol 64",
    "nft flush set inet dni peer-subnets",
    "nft add element inet dni peer-agents '{ 10.0.0.77 }'",
    "nft add element inet dni overlays4 '{ 203.0.113.0/24 }'",
    "nft delete table inet dni",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_somebody_else_damaged_is_noticed_and_mended(first: Member, damage: str) -> None:
    observe = first.kernel.observe
    before = listed(first), first.sh("nft -s list table inet dni")
    assert not first.run(observe, first.wanted).peers
    first.sh(damage)
    seen = first.run(observe, first.wanted)
    assert seen.peers or seen.firewall
    if "set inet dni" in damage or "element" in damage:
        first.now += 61
    assert first.reconcile()
    assert (listed(first), first.sh("nft -s list table inet dni")) == before
    seen = first.run(observe, first.wanted)
    assert not seen.peers
    assert not seen.firewall
    assert first.reconcile() == []


def test_what_goes_unsaid_with_the_agent_ip_comes_back_with_it(cluster: Cluster) -> None:
    """As a DHCP client does that renews too late: it takes the address away and puts it back a moment later."""
    first = cluster.near[0]
    first.know(cluster.others(first), {"dcos": "direct"})
    first.reconcile()
    before = listed(first)
    first.sh("ip addr del 10.0.0.1/24 dev eth0")
    assert "9.0.2.0/24" not in first.sh("ip route")
    first.sh("ip addr add 10.0.0.1/24 dev eth0", "ip route add default via 10.0.0.254")
    first.reconcile()
    assert listed(first) == before
    assert first.reconcile() == []


def test_a_host_that_calls_table_42_by_a_name_has_all_entries_all_the_same(first: Member, tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.mkdir()
    (names / "own.conf").write_text("42 vpn\n")
    first.run(cover, names, Path("/etc/iproute2/rt_tables.d"))
    assert "via 44.128.0.2 dev vtep1024" in first.sh("ip route show table vpn")
    assert not first.run(first.kernel.observe, first.wanted).peers
    first.now += 61
    assert first.reconcile() == []


def test_an_address_of_somebody_else_on_the_vtep_takes_no_way_along(first: Member) -> None:
    first.sysctl("ipv4/conf/vtep1024/promote_secondaries", 0)
    before = listed(first)
    first.sh("ip addr del 44.128.0.1/20 dev vtep1024", "ip addr add 44.128.0.99/20 dev vtep1024")
    first.reconcile()
    assert listed(first) == before
    assert first.reconcile() == []


def test_a_vtep_with_another_number_is_made_anew(cluster: Cluster) -> None:
    first, second = cluster.near[:2]
    first.sh("ip link add vtep1024 type vxlan id 7 dstport 4789")
    cluster.meet(dcos="vxlan")
    assert "vxlan id 1024" in first.sh("ip -d link show vtep1024")
    container = second.container(place("dcos", 2))
    assert call(first, container.address.ip)


def test_a_program_that_has_the_port_of_the_vtep_is_in_the_way_until_it_ends(cluster: Cluster) -> None:
    first = cluster.near[0]
    first.know(cluster.others(first), {"dcos": "vxlan"})
    with first.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as program:
        program.bind(("0.0.0.0", 64000))
        with pytest.raises(KernelError, match=r"vtep1024: UDP port 64000, .* `ss -lunp sport = 64000` names it"):
            first.reconcile()
    first.reconcile()
    assert "via 44.128.0.2 dev vtep1024" in first.sh("ip route")
    assert first.reconcile() == []


def test_a_vtep_that_serves_is_kept_with_its_neighbours(cluster: Cluster) -> None:
    """As a host has it that ran DC/OS until now: what travels on it goes on."""
    first = cluster.near[0]
    first.sh("ip link add vtep1024 address 70:b3:d5:80:00:01 type vxlan id 1024 dstport 64000")
    first.sh("ip link set vtep1024 up", "ip addr add 44.128.0.1/20 dev vtep1024")
    first.sh("ip neigh add 44.128.0.2 lladdr 70:b3:d5:80:00:02 dev vtep1024 nud permanent")
    before = first.sh("ip -o link show vtep1024").partition(":")[0]
    cluster.meet(dcos="vxlan")
    assert first.sh("ip -o link show vtep1024").partition(":")[0] == before
    assert "alias dni vtep" in first.sh("ip link show vtep1024")


def test_without_a_cluster_a_vtep_of_others_is_left_alone(cluster: Cluster) -> None:
    first = cluster.near[0]
    first.sh("ip link add vtep1024 type vxlan id 1024 dstport 64000", "ip link set vtep1024 up")
    first.sh("ip addr add 44.128.0.1/20 dev vtep1024", "ip route add 9.0.2.0/24 via 44.128.0.2")
    before = first.sh("ip -d link show vtep1024"), first.sh("ip route")
    first.want(place("dcos", 1))
    first.reconcile()
    after = first.sh("ip -d link show vtep1024"), first.sh("ip route")
    assert before[0] == after[0]
    assert "9.0.2.0/24 via 44.128.0.2 dev vtep1024" in after[1]


def test_two_processes_follow_each_other(cluster: Cluster, first: Member) -> None:
    """Plugin and agent each have a kernel room of their own, and each remembers what it applied."""
    other = Kernel(first.run_dir, clock=lambda: first.now)
    with_both, with_one = first.wanted, msgspec.structs.replace(first.wanted, peers=[cluster.near[2].as_peer])
    before = listed(first)
    first.run(other.reconcile, lambda: with_both)
    for _ in range(2):
        first.run(other.reconcile, lambda: with_one)
        assert about(first, 2) == []
        first.run(first.kernel.reconcile, lambda: with_both)
        assert listed(first) == before
    other.close()


@pytest.fixture
def plugin(first: Member) -> Iterator[Kernel]:
    """Give the kernel as the plugin beside the agent of the first host has it."""
    kernel = Kernel(first.run_dir, clock=lambda: first.now, peers=LeftToTheAgent)
    yield kernel
    kernel.close()


def of_the_plugin(wanted: Wanted) -> Wanted:
    """Have the plugin want a bridge more; it never hears of peers."""
    more = overlay("more", "10.65.1.129/25", subnets=("10.65.0.0/16",))
    return msgspec.structs.replace(
        wanted, peers=[], bridges=(*wanted.bridges, more.bridge), policies=(*wanted.policies, more.policy)
    )


def guests_of(member: Member) -> list[str]:
    """Answer the addresses that the firewall of a host lets in from the underlay."""
    found = re.findall(r"set peer-\w+ \{[^}]*elements = \{([^}]*)\}", member.sh("nft list table inet dni"))
    return sorted(address.strip() for listed in found for address in listed.split(","))


def test_the_plugin_leaves_peers_to_the_agent(first: Member, plugin: Kernel) -> None:
    before, admitted = listed(first), guests_of(first)
    assert "10.0.0.2" in admitted
    first.run(plugin.reconcile, lambda: of_the_plugin(first.wanted))
    assert first.sh("ip link show d-more")
    assert set(before) <= set(listed(first))
    assert guests_of(first) == admitted, "its new firewall lets in whom the last one did"
    assert first.run(plugin.reconcile, lambda: of_the_plugin(first.wanted)) == []
    first.sh("ip link del vtep1024")
    assert first.run(plugin.reconcile, lambda: of_the_plugin(first.wanted)) == []


def test_a_firewall_that_the_plugin_finds_gone_is_made_whole_by_the_agent(first: Member, plugin: Kernel) -> None:
    admitted = guests_of(first)
    first.sh("nft delete table inet dni")
    for _ in range(2):
        first.run(plugin.reconcile, lambda: msgspec.structs.replace(first.wanted, peers=[]))
        assert "chain forward" in first.sh("nft list table inet dni"), "it is shut at once"
        assert guests_of(first) == []
    first.reconcile()
    assert guests_of(first) == admitted
    assert first.run(plugin.reconcile, lambda: msgspec.structs.replace(first.wanted, peers=[])) == []


def crowd(count: int) -> list[Peer]:
    """Answer many peers, all on the link and each with a subnet of both families."""
    base, vteps = int(IPv4Address("10.0.16.0")), int(IPv4Address("44.128.2.0"))
    made = peer(2, "10.0.0.2", ["dcos"])
    found = []
    for number in range(count):
        held = [
            type(one)(overlay="dcos", subnet=type(one.subnet)(f"9.{100 + number // 256}.{number % 256}.0/24"))
            for one in made.subnets[:1]
        ]
        address = type(made.vtep.ip)(f"{IPv4Address(vteps + number)}/20")
        found.append(Peer(agent_ip=IPv4Address(base + number), vtep=type(made.vtep)(address), subnets=tuple(held)))
    return found


def test_two_thousand_peers_come_and_go_at_once(cluster: Cluster) -> None:
    first = cluster.near[0]
    first.sh("ip addr add 10.0.0.1/16 dev eth0")
    first.know([], {"dcos": "auto"})
    first.reconcile()
    before = listed(first)
    peers = crowd(2000)
    first.know(peers, {"dcos": "auto"})
    first.reconcile()
    assert first.sh("ip route show proto 64").count("\n") == 2000
    assert first.sh("ip -4 neigh show dev vtep1024 nud permanent").count("\n") == 2000
    assert not first.run(first.kernel.observe, first.wanted).peers
    first.know(peers[:-1], {"dcos": "vxlan"})
    first.reconcile()
    assert first.sh("ip route show proto 64").count("vtep1024") == 1999
    assert first.sh("ip route show table 42").count("vtep1024") == 1999
    first.know([], {"dcos": "auto"})
    first.reconcile()
    assert listed(first) == before
    assert first.reconcile() == []


def test_what_the_kernel_refuses_is_said_and_the_rest_done(cluster: Cluster) -> None:
    first = cluster.near[0]
    own = peer(6, "10.0.0.6", ["dcos"])
    odd = msgspec.structs.replace(own, agent_ip=IPv4Address("10.0.0.255"))
    first.know([cluster.near[2].as_peer], {"dcos": "direct"})
    first.reconcile()
    first.know([odd, cluster.near[1].as_peer], {"dcos": "direct"})
    with pytest.raises(
        KernelError, match=r"peers: `ip route replace 9\.0\.6\.0/24 via 10\.0\.0\.255 dev eth0 proto 64`"
    ):
        first.reconcile()
    assert "9.0.2.0/24 via 10.0.0.2" in first.sh("ip route")
    assert about(first, 3) == []
    first.know([cluster.near[1].as_peer], {"dcos": "direct"})
    first.reconcile()
    assert about(first, 6) == []


def test_what_was_refused_is_tried_again_the_next_time(
    cluster: Cluster, first: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends: dict[str, Backend] = {"dcos": "vxlan", "dev": "auto"}
    first.know([cluster.near[2].as_peer, cluster.far.as_peer], backends)
    first.reconcile()
    first.know(cluster.others(first), backends)
    with monkeypatch.context() as patch:
        patch.setattr(batches, "put", Mock(side_effect=KernelError("the host is overloaded")))
        with pytest.raises(KernelError, match="peers: the host is overloaded"):
            first.reconcile()
    first.reconcile()
    assert "9.0.2.0/24 via 44.128.0.2 dev vtep1024" in first.sh("ip route")


def test_guests_come_and_go_and_the_rest_of_the_firewall_is_not_looked_at(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = cluster.near
    first.know([second.as_peer], {"dcos": "direct"})
    first.reconcile()
    assert first.reconcile() == []
    with monkeypatch.context() as patch:
        for name in ("attempt", "run"):
            patch.setattr(firewall, name, Mock(side_effect=AssertionError("no command is needed")))
        first.know([second.as_peer, third.as_peer], {"dcos": "direct"})
        assert len(first.reconcile()) == 1
    assert "9.0.3.0" in first.sh("nft list set inet dni peer-subnets")
    first.sh("nft delete element inet dni peer-agents '{ 10.0.0.3 }'")
    first.know([second.as_peer], {"dcos": "direct"})
    first.reconcile()
    assert "9.0.3.0" not in first.sh("nft list set inet dni peer-subnets")
