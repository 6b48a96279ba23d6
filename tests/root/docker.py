# SPDX-License-Identifier: Apache-2.0
"""A host where Docker's bridge driver has been: docker0, a container on it, and the rules it writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.root.ground import Namespace, wire
from tests.root.packets import Server

ADDRESS = "172.17.0.2"

RULES = (
    "iptables -P FORWARD DROP",
    "iptables -N DOCKER",
    "iptables -N DOCKER-USER",
    "iptables -A DOCKER-USER -j RETURN",
    "iptables -A FORWARD -j DOCKER-USER",
    "iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "iptables -A FORWARD -o docker0 -j DOCKER",
    "iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
    "iptables -A FORWARD -i docker0 -o docker0 -j ACCEPT",
    "iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
)
"""As 20.10 has them, those of isolation between Docker's own networks left out."""


def filter_bridged_frames(host: Namespace) -> None:
    """Have frames between ports of one bridge go through iptables too, as Docker does (br_netfilter)."""
    for tables in ("iptables", "ip6tables"):
        host.sysctl(f"bridge/bridge-nf-call-{tables}", 1)


@contextmanager
def docker_on(host: Namespace) -> Iterator[Namespace]:
    """Set Docker's bridge and rules up on a host, with bridged frames filtered; give its container."""
    filter_bridged_frames(host)
    host.sysctl("ipv4/ip_forward", 1)
    host.sh("ip link add docker0 type bridge", "ip addr add 172.17.0.1/16 dev docker0", "ip link set docker0 up")
    host.sh("ip6tables -P FORWARD DROP", *RULES)
    with Namespace() as container:
        wire(host, "veth17", container, "eth0")
        host.sh("ip link set veth17 master docker0")
        container.sh(f"ip addr add {ADDRESS}/16 dev eth0", "ip route add default via 172.17.0.1")
        with Server(container):
            yield container
