# SPDX-License-Identifier: Apache-2.0
"""A host where Docker's bridge driver has been: docker0, a container on it, and the rules it writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.root.ground import Namespace, wire
from tests.root.packets import Server

ADDRESS, ADDRESS6 = "172.17.0.2", "fd17::2"

RULES = (
    "-P FORWARD DROP",
    "-N DOCKER",
    "-N DOCKER-USER",
    "-A DOCKER-USER -j RETURN",
    "-A FORWARD -j DOCKER-USER",
    "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A FORWARD -o docker0 -j DOCKER",
    "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
    "-A FORWARD -i docker0 -o docker0 -j ACCEPT",
)
"""As 20.10 has them, those of isolation between Docker's own networks left out; of IPv6 where it looks after that."""

SUBNETS = {"iptables": "172.17.0.0/16", "ip6tables": "fd17::/64"}


def filter_bridged_frames(host: Namespace) -> None:
    """Have frames between ports of one bridge go through iptables too, as Docker does (br_netfilter)."""
    for tables in ("iptables", "ip6tables"):
        host.sysctl(f"bridge/bridge-nf-call-{tables}", 1)


@contextmanager
def docker_on(host: Namespace, tools: Sequence[str] = tuple(SUBNETS)) -> Iterator[Namespace]:
    """Set Docker's bridge and rules up on a host, by iptables' variants of both families; give its container.

    Bridged frames are filtered.
    """
    filter_bridged_frames(host)
    for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        host.sysctl(key, 1)
    host.sh("ip link add docker0 type bridge", "ip addr add 172.17.0.1/16 dev docker0")
    host.sh("ip addr add fd17::1/64 dev docker0 nodad", "ip link set docker0 up")
    for tool, subnet in zip(tools, SUBNETS.values(), strict=True):
        host.sh(*(f"{tool} {rule}" for rule in RULES))
        host.sh(f"{tool} -t nat -A POSTROUTING -s {subnet} ! -o docker0 -j MASQUERADE")
    with Namespace() as container:
        wire(host, "veth17", container, "eth0")
        host.sh("ip link set veth17 master docker0")
        container.sh(f"ip addr add {ADDRESS}/16 dev eth0", "ip route add default via 172.17.0.1")
        container.sh(f"ip addr add {ADDRESS6}/64 dev eth0 nodad", "ip route add default via fd17::1")
        with Server(container):
            yield container
