# SPDX-License-Identifier: Apache-2.0
"""TCP and single packets between containers on two hosts, by VXLAN and directly, of dni and made by hand.

Hosts here are bare namespaces without Docker; `tests.bench.cluster` has engines. What is made by hand masquerades
what leaves for elsewhere, as any network of containers must; it checks nobody and isolates nothing. TCP is measured
where nothing but the processor limits it, and on links as fast as those of common network cards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec

from dni_driver.core.overlays import Backend
from tests.bench import packets
from tests.bench.figures import Figure, median_ratio
from tests.bench.links import LINKS, slow_down
from tests.root.cluster import Member, place
from tests.root.ground import Namespace, wire
from tests.root.town import Overlay
from tests.root.traffic import bits_per_second

BY_HAND, ROUTES, BARE = "hand-made VXLAN", "hand-made routes", "host to host"
VXLAN, DIRECT = "dni, vxlan", "dni, direct"
_COMPARED = ((BY_HAND, VXLAN, 1.03), (BARE, DIRECT, 1.03), (ROUTES, DIRECT, None))
"""What of dni's is compared with what, and the bar: 0.97 of the other. Between bare hosts no bridge is crossed."""
_BACKENDS: dict[str, Backend] = {"dcos": "vxlan", "dev": "direct"}
_MTU = 1500
_NO_LIMIT = 0
_PACKETS_EACH_ROUND = 20


class Way(msgspec.Struct, frozen=True):
    """From a container to an address of another."""

    client: Namespace
    server: Namespace
    address: str

    def tcp(self) -> float:
        """Answer the bits a second that TCP carries."""
        return bits_per_second(self.client, self.server, self.address, _NO_LIMIT, "tcp", from_server=False)

    def packet(self) -> float:
        """Answer the seconds of processor that a packet takes."""
        return packets.cost(self.client, self.server, self.address)


class Taken(msgspec.Struct, frozen=True):
    """What was measured of each way, round by round: bits a second without and on each link, seconds for a packet."""

    tcp: dict[str, list[float]]
    packets: dict[str, list[float]]
    linked: dict[str, dict[str, list[float]]]


def in_turn(rounds: int) -> Taken:
    """Measure each way in each round: TCP once, single packets some times in turn; then TCP on slower links."""
    with ExitStack() as stack:
        switches = [_switch(stack) for _ in ("by hand", *_BACKENDS)]
        ways = dict(_ways(stack, switches))
        taken = Taken(_nothing(ways), _nothing(ways), {link: _nothing(ways) for link in LINKS})
        for _ in range(rounds):
            _tcp(ways, taken.tcp)
            for _ in range(_PACKETS_EACH_ROUND):
                for name, way in ways.items():
                    taken.packets[name].append(way.packet())
        for link, linked in taken.linked.items():
            for switch in switches:
                slow_down(switch.sh, link)
            for _ in range(rounds):
                _tcp(ways, linked)
    return taken


def _nothing(ways: Iterable[str]) -> dict[str, list[float]]:
    return {name: [] for name in ways}


def _tcp(ways: Mapping[str, Way], taken: Mapping[str, list[float]]) -> None:
    for name, way in ways.items():
        taken[name].append(way.tcp())


def figures(taken: Taken) -> list[Figure]:
    """Answer how many times as fast as dni its bars are, what there was of each, and what a packet costs."""
    return [
        *_of_tcp("TCP across hosts", taken.tcp),
        *(
            figure
            for link, linked in taken.linked.items()
            for figure in _of_tcp(f"TCP across hosts on a link of {link}", linked)
        ),
        *(
            Figure(name=f"  a packet, {name}, µs of processor", value=packets.steady(each) * 1e6, unit="")
            for name, each in taken.packets.items()
        ),
    ]


def _of_tcp(title: str, taken: Mapping[str, list[float]]) -> Iterator[Figure]:
    for other, ours, bar in _COMPARED:
        value = median_ratio(taken[other], taken[ours])
        yield Figure(name=f"{title}: {other} / {ours}", value=value, unit="", bar=bar)
    for name, rates in taken.items():
        yield Figure(name=f"  {name}, Gbit/s", value=median(rates) / 1e9, unit="")


def _ways(stack: ExitStack, switches: Sequence[Namespace]) -> Iterator[tuple[str, Way]]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    by_hand, *ours = switches
    yield from _by_hand(stack, by_hand)
    tunnelled, direct = (_cluster(stack, folder, name, one) for name, one in zip(_BACKENDS, ours, strict=True))
    yield VXLAN, _between(*tunnelled)
    yield BARE, Way(direct[0][0], direct[0][1], direct[0][1].agent)
    yield DIRECT, _between(*direct)


def _switch(stack: ExitStack) -> Namespace:
    switch = stack.enter_context(Namespace())
    switch.sh("ip link add lan type bridge", "ip link set lan up")
    return switch


def _cluster(stack: ExitStack, folder: Path, name: str, switch: Namespace) -> tuple[list[Member], list[Overlay]]:
    """Have two hosts with one overlay on a link of their own."""
    members = [stack.enter_context(Member(folder / f"{name}{n}", n, f"10.0.0.{n}")) for n in (1, 2)]
    for member in members:
        _plug(switch, member, member.agent)
    places = [_place(name, member) for member in members]
    for member, here in zip(members, places, strict=True):
        member.know([other.as_peer for other in members if other is not member], {name: _BACKENDS[name]}, here)
        member.reconcile()
    return members, places


def _place(name: str, member: Member) -> Overlay:
    there = place(name, member.number)
    mtu = _MTU if _BACKENDS[name] == "direct" else _MTU - 50
    return msgspec.structs.replace(there, bridge=msgspec.structs.replace(there.bridge, mtu=mtu))


def _between(members: list[Member], places: list[Overlay]) -> Way:
    client, server = (member.container(here) for member, here in zip(members, places, strict=True))
    return Way(client.sandbox, server.sandbox, str(server.address.ip))


def _by_hand(stack: ExitStack, switch: Namespace) -> Iterator[tuple[str, Way]]:
    """Wire two hosts with plain bridges, one's subnet behind a VXLAN device and one's not."""
    hosts = [stack.enter_context(Namespace()) for _ in range(2)]
    tunnelled, plain = ([stack.enter_context(Namespace()) for _ in range(2)] for _ in range(2))
    for number, host in enumerate(hosts, start=1):
        other = 3 - number
        _plug(switch, host, f"10.0.0.{10 + number}")
        host.sysctl("ipv4/ip_forward", 1)
        host.sh(
            "ip link add hand type vxlan id 7 dstport 4789",
            f"ip link set hand address 02:00:00:00:07:0{number} mtu {_MTU - 50} up",
            f"ip addr add 172.31.0.{number}/24 dev hand",
            f"ip neigh add 172.31.0.{other} lladdr 02:00:00:00:07:0{other} dev hand nud permanent",
            f"bridge fdb add 02:00:00:00:07:0{other} dev hand dst 10.0.0.{10 + other} self permanent",
            f"ip route add 10.200.{other}.0/24 via 172.31.0.{other}",
            f"ip route add 10.201.{other}.0/24 via 10.0.0.{10 + other}",
            "nft add table ip hand",
            "nft add chain ip hand postrouting { type nat hook postrouting priority srcnat; }",
            "nft add rule ip hand postrouting ip saddr 10.200.0.0/15 ip daddr != 10.200.0.0/15 masquerade",
        )
        _box(host, tunnelled[number - 1], f"10.200.{number}", _MTU - 50)
        _box(host, plain[number - 1], f"10.201.{number}", _MTU)
    yield BY_HAND, Way(tunnelled[0], tunnelled[1], "10.200.2.2")
    yield ROUTES, Way(plain[0], plain[1], "10.201.2.2")


def _box(host: Namespace, box: Namespace, subnet: str, mtu: int) -> None:
    """Put a namespace on a bridge of its own, as a container is."""
    bridge = f"br{subnet.replace('.', '')}"
    host.sh(
        f"ip link add {bridge} mtu {mtu} type bridge",
        f"ip link set {bridge} up",
        f"ip addr add {subnet}.1/24 dev {bridge}",
        f"ip link add v{bridge} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {box.path}",
        f"ip link set v{bridge} master {bridge} up",
    )
    box.sh("ip link set eth0 up", f"ip addr add {subnet}.2/24 dev eth0", f"ip route add default via {subnet}.1")


def _plug(switch: Namespace, host: Namespace, address: str) -> None:
    port = f"p{address.rpartition('.')[2]}"
    wire(host, "eth0", switch, port)
    switch.sh(f"ip link set {port} master lan")
    host.sh(f"ip addr add {address}/24 dev eth0")
