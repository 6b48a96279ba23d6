# SPDX-License-Identifier: Apache-2.0
"""Hosts on one link, and such as stand behind a router, each with dni on it and all of them known to each other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import IPv4Interface, ip_address, ip_network
from pathlib import Path

import msgspec

from dni_driver.core import overlays
from dni_driver.core.overlays import AgentSubnet, Backend
from dni_driver.core.peers import Peer, Vtep
from dni_driver.kernel import Kernel
from tests.root.ground import Namespace, wire
from tests.root.town import MTU, Host, Overlay, overlay

SUBNETS = {"dcos": ("9.0.0.0/8", "fd01:b::/64"), "dev": ("10.64.0.0/16", "fd01:d::/64")}
_FOUR = {"dcos": "9.0.{}.0/24", "dev": "10.64.{}.0/24"}
_SIX = {"dcos": "fd01:b:0:0:{}::/80", "dev": "fd01:d:0:0:{}::/80"}


def agent_subnets(name: str, number: int) -> tuple[str, str]:
    """Answer the agent subnets that the agent of a number has of an overlay, IPv4 first."""
    return _FOUR[name].format(number), _SIX[name].format(number)


def place(name: str, number: int, *, internal: bool = False, isolated: bool = True, mtu: int = MTU) -> Overlay:
    """Describe an overlay as the agent of a number has it."""
    halves = [AgentSubnet(overlay=name, subnet=ip_network(one)).docker_half for one in agent_subnets(name, number)]
    gateways = [f"{overlays.gateway_of(half)}/{half.prefixlen}" for half in halves]
    found = overlay(name, *gateways, subnets=SUBNETS[name], internal=internal, isolated=isolated)
    return msgspec.structs.replace(found, bridge=msgspec.structs.replace(found.bridge, mtu=mtu))


def vtep(number: int) -> Vtep:
    """Answer the VTEP of the agent of a number."""
    return Vtep(IPv4Interface(f"44.128.0.{number}/20"))


def peer(number: int, agent: str, names: Sequence[str] = tuple(SUBNETS)) -> Peer:
    """Describe the agent of a number as the others know it."""
    held = [
        AgentSubnet(overlay=name, subnet=ip_network(one)) for name in names for one in agent_subnets(name, number)
    ]
    return Peer(agent_ip=ip_address(agent), vtep=vtep(number), subnets=tuple(held))


def defined(backends: dict[str, Backend]) -> tuple[overlays.Overlay, ...]:
    """Define the overlays with their backends."""
    return tuple(
        overlays.define(name, [ip_network(one) for one in SUBNETS[name]], backend=backend)
        for name, backend in backends.items()
    )


class Member(Host):
    """A host of a cluster: the agent of a number, at an address."""

    def __init__(self, run_dir: Path, number: int, agent: str) -> None:
        """Be alone still."""
        super().__init__(run_dir)
        self.number = number
        self.now = 0.0
        self.kernel = Kernel(run_dir, clock=lambda: self.now)
        self.agent = agent
        self.as_peer = peer(number, agent)

    def know(self, peers: Sequence[Peer], backends: dict[str, Backend], *places: Overlay) -> None:
        """Record these peers, and how packets travel to them; the places are all overlays unless some are given."""
        here = places or tuple(place(name, self.number) for name in backends)
        links = self.wanted.links
        self.want(*here, links=links)
        known = defined(backends)
        self.wanted = msgspec.structs.replace(
            self.wanted,
            agent=ip_address(self.agent),
            vtep=vtep(self.number),
            overlays=known,
            overlay_subnets=tuple(subnet for one in known for subnet in one.subnets()),
            peers=list(peers),
        )


class Underlay(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses of the two links between hosts, in which the last part is to be put, and what goes with them."""

    near: str
    far: str
    prefix: int
    forwarding: str
    put: str

    def put_on(self, link: str, address: str) -> str:
        """Answer the command that gives a link an address."""
        return f"ip addr add {address}/{self.prefix} dev {link} {self.put}"


FOUR = Underlay(near="10.0.0.{}", far="10.0.1.{}", prefix=24, forwarding="ipv4/ip_forward", put="")
SIX = Underlay(near="fd00::{}", far="fd00:1::{}", prefix=64, forwarding="ipv6/conf/all/forwarding", put="nodad")


class Cluster:
    """Three hosts on one link; the fourth is behind a router. Nothing between them has addresses of two families."""

    def __init__(self, folder: Path, stack: ExitStack, underlay: Underlay = FOUR) -> None:
        """Wire them up."""
        self.switch = stack.enter_context(Namespace())
        self.switch.sh("ip link add lan type bridge", "ip link set lan up")
        self.switch.sysctl(underlay.forwarding, 1)
        self.near = [stack.enter_context(Member(folder / f"run{n}", n, underlay.near.format(n))) for n in (1, 2, 3)]
        self.far = stack.enter_context(Member(folder / "run4", 4, underlay.far.format(4)))
        self.router, router_of_far = underlay.near.format(254), underlay.far.format(254)
        for member in self.near:
            wire(member, "eth0", self.switch, f"port{member.number}")
            self.switch.sh(f"ip link set port{member.number} master lan")
            member.sh(underlay.put_on("eth0", member.agent), f"ip route add default via {self.router}")
        wire(self.far, "eth0", self.switch, "port4")
        self.switch.sh(underlay.put_on("lan", self.router), underlay.put_on("port4", router_of_far))
        self.far.sh(underlay.put_on("eth0", self.far.agent), f"ip route add default via {router_of_far}")
        self.members = [*self.near, self.far]

    def meet(self, **backends: Backend) -> None:
        """Have all know each other, with these backends of overlays, and nothing left to be done."""
        for member in self.members:
            member.know(self.others(member), backends)
            member.reconcile()

    def others(self, member: Member) -> list[Peer]:
        """Answer the peers of a member."""
        return [other.as_peer for other in self.members if other is not member]
