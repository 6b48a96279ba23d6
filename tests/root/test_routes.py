# SPDX-License-Identifier: Apache-2.0
"""What this host's links and routes say."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path

import pytest

from dni_driver.core.errors import KernelError
from dni_driver.core.mtu import Underlay
from dni_driver.kernel import routes
from tests.root.town import DCOS, Host

pytestmark = pytest.mark.root


def agent(host: Host) -> str:
    return str(host.run(host.kernel.agent_address))


def overlapping(host: Host, network: str, *resolv_conf: Path) -> list[str]:
    return host.run(routes.overlapping, ip_network(network), resolv_conf)


def add_link(host: Host, name: str, *addresses: str) -> None:
    host.sh(f"ip link add {name} type veth peer name peer-{name}", f"ip link set peer-{name} up")
    host.sh(f"ip link set {name} up", *(f"ip addr add {address} dev {name}" for address in addresses))


def test_a_host_without_any_link_is_known_by_loopback(host: Host) -> None:
    assert agent(host) == "127.0.0.1"
    assert host.run(host.kernel.underlay, IPv4Address("127.0.0.1")) == Underlay(
        link="lo", mtu=65536, networks=(IPv4Network("127.0.0.0/8"),)
    )


def test_without_a_default_route_the_first_global_address_counts_but_no_containers(host: Host) -> None:
    host.want(DCOS)
    host.reconcile()
    host.sh("ip link add docker0 type bridge", "ip addr add 172.17.0.1/16 dev docker0")
    assert agent(host) == "127.0.0.1"
    add_link(host, "eth7", "169.254.7.7/16", "192.0.2.7/24")
    assert agent(host) == "192.0.2.7"


def test_the_default_route_decides(host: Host) -> None:
    add_link(host, "eth0", "192.0.2.7/24")
    add_link(host, "eth1", "203.0.113.9/24", "203.0.113.10/24")
    host.sh("ip route add default via 203.0.113.1")
    assert agent(host) == "203.0.113.9"
    host.sh("ip route add default via 192.0.2.1 metric 7", "ip route change default via 203.0.113.1 src 203.0.113.10")
    assert agent(host) == "203.0.113.10"


def test_without_an_ipv4_default_route_that_of_ipv6_decides(host: Host) -> None:
    add_link(host, "eth0", "192.0.2.7/24")
    add_link(host, "eth1", "fd00::9/64 nodad", "fd00::8/64 nodad")
    assert agent(host) == "192.0.2.7", "nothing says that fd00::8 leads anywhere"
    host.sh("ip route add default via fd00::fe dev eth1")
    assert agent(host) == "fd00::8"
    host.sh("ip route change default via fd00::fe dev eth1 src fd00::9")
    assert agent(host) == "fd00::9"
    host.sh("ip route add default via 192.0.2.1")
    assert agent(host) == "192.0.2.7"


def test_ipv6_addresses_that_pass_are_not_what_a_host_is_known_by(host: Host) -> None:
    """Temporary and deprecated ones, and those that have a lifetime where others have none."""
    add_link(host, "eth0")
    host.sh("ip -6 addr flush dev eth0", "ip route add default dev eth0 via fe80::1")
    for unfit in (
        "fd00::1/64 nodad preferred_lft 0 valid_lft 1000",
        "fe80::2/64 nodad",
    ):
        host.sh(f"ip addr add {unfit} dev eth0")
        assert agent(host) == "127.0.0.1"
    host.sh("ip addr add fd00::4/64 dev eth0 nodad preferred_lft 500 valid_lft 1000")
    assert agent(host) == "fd00::4"
    host.sh("ip addr add fd00::5/64 dev eth0 nodad")
    assert agent(host) == "fd00::5"


def test_a_privacy_address_is_not_what_a_host_is_known_by(host: Host) -> None:
    add_link(host, "eth0")
    host.sysctl("ipv6/conf/eth0/use_tempaddr", 2)
    host.sh("ip route add default dev eth0 via fe80::1")
    host.sh("ip addr add fd00::f000:4/64 dev eth0 nodad mngtmpaddr preferred_lft 5000 valid_lft 10000")
    eventually(lambda: "temporary" in host.sh("ip -6 addr show dev eth0"))
    assert agent(host) == "fd00::f000:4"


def eventually(what: Callable[[], bool], seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_on_the_link_is_what_shares_the_agents_prefix_or_what_a_router_says(host: Host) -> None:
    add_link(host, "eth0", "fd00::7/64 nodad", "fd00:9::7/64 nodad", "192.0.2.7/24")
    add_link(host, "eth1", "fd00:1::7/128 nodad", "fd00:2::7/64 nodad")
    host.sh("ip -6 route add fd00:1::/64 dev eth1 proto ra", "ip -6 route add fd00:3::/64 via fd00:2::1")
    one = host.run(host.kernel.underlay, IPv6Address("fd00::7"))
    assert (one.link, one.local, one.family) == ("eth0", IPv6Address("fd00::7"), 6)
    assert set(one.networks) == {IPv6Network("fd00::/64"), IPv6Network("fd00:9::/64")}
    other = host.run(host.kernel.underlay, IPv6Address("fd00:1::7"))
    assert set(other.networks) == {IPv6Network("fd00:1::/64"), IPv6Network("fd00:2::/64")}
    with pytest.raises(KernelError, match=r"no link of this host carries the agent IP fd00::8: see `ip address`"):
        host.run(host.kernel.underlay, IPv6Address("fd00::8"))


def test_the_uplink_may_be_called_like_a_bridge_of_dockers(host: Host) -> None:
    add_link(host, "br-lan", "192.0.2.7/24")
    host.sh("ip route add default via 192.0.2.1")
    assert agent(host) == "192.0.2.7"


def test_the_underlays_mtu_is_that_of_the_agents_link(host: Host) -> None:
    add_link(host, "eth0", "192.0.2.7/24")
    host.sh("ip link set eth0 mtu 9001")
    assert host.run(host.kernel.underlay, IPv4Address("192.0.2.7")) == Underlay(
        link="eth0", mtu=9001, networks=(IPv4Network("192.0.2.0/24"),)
    )
    with pytest.raises(KernelError, match=r"no link of this host carries the agent IP 192\.0\.2\.8"):
        host.run(host.kernel.underlay, IPv4Address("192.0.2.8"))


def test_on_link_routes_that_overlap_are_told(host: Host) -> None:
    add_link(host, "eth0", "192.168.1.5/24", "fd77::5/64")
    host.sh("ip route add 10.9.0.0/16 via 192.168.1.1", "ip route add default via 192.168.1.1")
    assert overlapping(host, "192.168.0.0/16") == ["192.168.1.0/24 on eth0"]
    assert overlapping(host, "192.168.1.128/25") == ["192.168.1.0/24 on eth0"]
    assert overlapping(host, "fd00::/8") == ["fd77::/64 on eth0"]
    host.sh(
        "ip -6 route add fd79::/64 nexthop via fd77::1 nexthop via fd77::2", "ip route add blackhole 172.16.0.0/16"
    )
    host.sh("ip route add 172.17.0.0/16 dev eth0", "ip route add 172.18.0.0/16 dev eth0 table 52")
    assert overlapping(host, "fd79::/64") == []
    assert overlapping(host, "172.16.0.0/14") == ["172.17.0.0/16 on eth0"]
    assert overlapping(host, "10.9.0.0/16") == [], "not on link: dockerd does not mind"
    assert overlapping(host, "10.0.0.0/8") == []
    assert overlapping(host, "fd01:b::/64") == []


def test_our_own_bridge_overlaps_its_overlay(host: Host) -> None:
    host.want(DCOS)
    host.reconcile()
    assert overlapping(host, "9.0.0.0/8") == ["9.0.0.128/25 on d-dcos"]


def test_name_servers_in_the_network_are_told(host: Host, tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(
        "# nameserver 9.9.9.9\nnameserver 9.0.0.53\nnameserver fd01:b::53%eth0\nnameserver rubbish\nnameserver\n"
    )
    assert overlapping(host, "9.0.0.0/8", resolv_conf) == ["name server 9.0.0.53"]
    assert overlapping(host, "fd01:b::/64", resolv_conf) == ["name server fd01:b::53"]
    assert overlapping(host, "10.0.0.0/8", resolv_conf, tmp_path / "missing") == []


def test_behind_a_stub_the_servers_it_asks_count(host: Host, tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\n")
    real.write_text("nameserver 9.0.0.53\n")
    assert overlapping(host, "9.0.0.0/8", stub, real) == ["name server 9.0.0.53"]
    stub.write_text("nameserver 192.0.2.53\n")
    assert overlapping(host, "9.0.0.0/8", stub, real) == []


@pytest.mark.parametrize(
    ("network", "leads"),
    [
        ("198.18.16.0/20", True),
        ("198.18.32.0/20", True),
        ("198.18.48.0/20", True),
        ("198.18.64.0/20", False),
        ("198.18.80.0/20", False),
    ],
    ids=["on link", "by a router", "in another table", "by half the world's", "address of this host"],
)
def test_a_route_that_leads_into_a_network_is_seen_in_whichever_table(host: Host, network: str, leads: bool) -> None:  # noqa: FBT001
    add_link(host, "eth0", "198.18.16.5/24")
    host.sh("ip addr add 198.18.80.1/32 dev lo", "ip route add default via 198.18.16.1")
    host.sh("ip route add 128.0.0.0/1 via 198.18.16.1", "ip route add 198.18.32.0/19 via 198.18.16.1")
    host.sh("ip route add 198.18.48.0/24 via 198.18.16.1 table 52")
    assert host.run(host.kernel.leads_into, ip_network(network)) is leads
