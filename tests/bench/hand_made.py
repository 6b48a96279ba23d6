# SPDX-License-Identifier: Apache-2.0
"""Containers across two lab hosts as an administrator would join them who has no driver: plain bridges and VXLAN.

Each host has a bridge with an address, a VXLAN device with permanent entries for the other host, and a route to the
other's subnet. As any network of containers, it is masqueraded on its way out, and Docker's FORWARD lets it through.
Nothing is checked, nothing is isolated.
"""

from __future__ import annotations

from tests.bench.talk import Spot, Way
from tests.lab import Host
from tests.lab.image import NAME

_PORT = 4790
_MTU = 1450
_BRIDGE = "hand"
_TUNNEL = "hand-vx"
_MASQUERADE = """\
table ip hand {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.200.0.0/16 ip daddr != 10.200.0.0/16 masquerade
	}
}
"""


def across(hosts: tuple[Host, Host]) -> Way:
    """Join two hosts, and put a container on each."""
    for number, (host, other) in enumerate((hosts, hosts[::-1]), start=1):
        _join(host, number, other.address, 3 - number)
    client, server = (_container(host, number) for number, host in enumerate(hosts, start=1))
    return Way(client, server)


def _join(host: Host, number: int, other_address: str, other: int) -> None:
    _do(
        host,
        f"ip link add {_TUNNEL} type vxlan id 7 dstport {_PORT}",
        f"ip link set {_TUNNEL} address 02:00:00:00:07:0{number} mtu {_MTU} up",
        f"ip addr add 172.31.255.{number}/24 dev {_TUNNEL}",
        f"ip neigh add 172.31.255.{other} lladdr 02:00:00:00:07:0{other} dev {_TUNNEL} nud permanent",
        f"bridge fdb add 02:00:00:00:07:0{other} dev {_TUNNEL} dst {other_address} self permanent",
        f"ip route add 10.200.{other}.0/24 via 172.31.255.{other}",
        f"ip link add {_BRIDGE} mtu {_MTU} type bridge",
        f"ip link set {_BRIDGE} up",
        f"ip addr add 10.200.{number}.1/24 dev {_BRIDGE}",
        f"iptables -I DOCKER-USER -i {_BRIDGE} -j ACCEPT",
        f"iptables -I DOCKER-USER -o {_BRIDGE} -j ACCEPT",
    )
    host.run("nft", "-f", "-", stdin=_MASQUERADE)


def _container(host: Host, number: int) -> Spot:
    host.docker("run", "-d", "--name", "hand", "--net", "none", NAME, "sleep", "100000")
    sandbox = host.docker("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "hand")
    spot = Spot(host, f"10.200.{number}.2", sandbox)
    _do(
        host,
        f"ip link add hand-c mtu {_MTU} type veth peer name eth0 mtu {_MTU} netns {sandbox}",
        f"ip link set hand-c master {_BRIDGE} up",
    )
    for command in (
        "ip link set eth0 up",
        f"ip addr add {spot.address}/24 dev eth0",
        f"ip route add default via 10.200.{number}.1",
    ):
        host.run(*spot.inside(*command.split()))
    return spot


def _do(host: Host, *commands: str) -> None:
    for command in commands:
        host.run(*command.split())
