# SPDX-License-Identifier: Apache-2.0
"""TCP between containers on two hosts, by VXLAN and directly, of dni and made by hand; and between bare hosts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from tests.bench.figures import Figure, median_ratio
from tests.root.cluster import Member, place
from tests.root.ground import Namespace, wire
from tests.root.town import Overlay
from tests.root.traffic import bits_per_second

BY_HAND, ROUTES, BARE = "hand-made VXLAN", "hand-made routes", "host to host"
VXLAN, DIRECT = "dni, vxlan", "dni, direct"
_COMPARED = ((BY_HAND, VXLAN, 1.03), (BARE, DIRECT, 1.03), (ROUTES, DIRECT, None))
"""What of dni's is compared with what, and the bar: 0.97 of the other. Between bare hosts no bridge is crossed."""
_BACKENDS = {"dcos": "vxlan", "dev": "direct"}
_NO_LIMIT = 0
_MTU = 1500

Way = Callable[[], float]


def in_turn(rounds: int) -> dict[str, list[float]]:
    """Measure each way once in each round; bits a second."""
    with ExitStack() as stack:
        ways = dict(_ways(stack))
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, measure in ways.items():
                taken[name].append(measure())
    return taken


def figures(taken: dict[str, list[float]]) -> list[Figure]:
    """Answer how many times as fast as dni its bars are, and what there was of each in Gbit/s."""
    return [
        Figure(
            name=f"TCP across hosts: {bar} / {ours}", value=median_ratio(taken[bar], taken[ours]), unit="", bar=1.03
        )
        for bar, ours in ((BY_HAND, VXLAN), (BARE, DIRECT))
    ] + [
        Figure(name=f"  {name}, Gbit/s", value=sorted(rates)[len(rates) // 2] / 1e9, unit="")
        for name, rates in taken.items()
    ]


def _ways(stack: ExitStack) -> Iterator[tuple[str, Way]]:
    switch = stack.enter_context(Namespace())
    switch.sh("ip link add lan type bridge", "ip link set lan up")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    yield from _by_hand(stack, switch)
    members = [stack.enter_context(Member(folder / str(n), n, f"10.0.0.{n}")) for n in (1, 2)]
    for member in members:
        _plug(switch, member, member.agent)
    places = [[_place(name, member) for name in _BACKENDS] for member in members]
    for member, here in zip(members, places, strict=True):
        member.know([other.as_peer for other in members if other is not member], _BACKENDS, *here)  # type: ignore[arg-type]
        member.reconcile()
    yield VXLAN, _between(members, [here[0] for here in places])
    yield BARE, lambda: _tcp(members[0], members[1], members[1].agent)
    yield DIRECT, _between(members, [here[1] for here in places])


def _place(name: str, member: Member) -> Overlay:
    there = place(name, member.number)
    mtu = _MTU if _BACKENDS[name] == "direct" else _MTU - 50
    return msgspec.structs.replace(there, bridge=msgspec.structs.replace(there.bridge, mtu=mtu))


def _between(members: list[Member], places: list[Overlay]) -> Way:
    client, server = (member.container(here) for member, here in zip(members, places, strict=True))
    return lambda: _tcp(client.sandbox, server.sandbox, server.address.ip)


def _by_hand(stack: ExitStack, switch: Namespace) -> Iterator[tuple[str, Way]]:
    """Wire two hosts with plain bridges, one's subnet behind a VXLAN device and one's not, and no firewall at all."""
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
        )
        _box(host, tunnelled[number - 1], f"10.200.{number}", _MTU - 50)
        _box(host, plain[number - 1], f"10.201.{number}", _MTU)
    yield BY_HAND, lambda: _tcp(tunnelled[0], tunnelled[1], "10.200.2.2")
    yield ROUTES, lambda: _tcp(plain[0], plain[1], "10.201.2.2")


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


def _tcp(client: Namespace, server: Namespace, address: object) -> float:
    return bits_per_second(client, server, address, _NO_LIMIT, "tcp", from_server=False)
