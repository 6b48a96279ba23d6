# SPDX-License-Identifier: Apache-2.0
"""What it costs to have the kernel know many peers: all of them from nothing, and one more."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from dni_driver.core.overlays import AgentSubnet, Overlay
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.wanted import Wanted
from dni_driver.kernel import Kernel
from tests.bench.figures import Figure, median_ms, median_ratio
from tests.root.ground import Namespace

MANY = 10_000
FROM_NOTHING, BY_HAND = "dni", "ip -batch and bridge -batch"

_AGENT = IPv4Address("10.0.0.1")
_VTEPS = IPv4Network("44.128.0.0/16")
_DCOS = Overlay(name="dcos", subnet=IPv4Network("9.0.0.0/8"), prefix=24)


def peers(count: int) -> list[Peer]:
    """Answer so many peers, on the link, each with one agent subnet."""
    return [_peer(number) for number in range(2, count + 2)]


def _peer(number: int) -> Peer:
    held = AgentSubnet(overlay=_DCOS.name, subnet=IPv4Network((int(IPv4Address("9.0.0.0")) + (number << 8), 24)))
    return Peer(agent_ip=IPv4Address("10.0.0.0") + number, vtep=_vtep(number), subnets=(held,))


def _vtep(number: int) -> Vtep:
    return Vtep(IPv4Interface((_VTEPS.network_address + number, _VTEPS.prefixlen)))


@contextmanager
def _host() -> Iterator[Namespace]:
    with Namespace() as host:
        host.sh("ip link add eth0 type veth peer name eth1", "ip link set eth0 up", "ip link set eth1 up")
        host.sh(f"ip addr add {_AGENT}/8 dev eth0")
        yield host


def _wanted(known: Sequence[Peer]) -> Wanted:
    return Wanted(agent=_AGENT, vtep=_vtep(1), overlays=(_DCOS,), overlay_subnets=(_DCOS.subnet,), peers=known)  # type: ignore[arg-type]


def from_nothing(rounds: int) -> dict[str, list[float]]:
    """Have a fresh host know many peers, by dni and by hand in turn; the seconds of each."""
    known = peers(MANY)
    scripts = _scripts(known)
    taken: dict[str, list[float]] = {FROM_NOTHING: [], BY_HAND: []}
    for _ in range(rounds):
        with _host() as host, tempfile.TemporaryDirectory() as folder:
            taken[FROM_NOTHING].append(_by_dni(host, Kernel(Path(folder)), known))
        with _host() as host:
            taken[BY_HAND].append(host.run(_by_hand, scripts))
    return taken


def _by_dni(host: Namespace, kernel: Kernel, known: Sequence[Peer]) -> float:
    """Time the reconcile alone: VTEP and firewall are there before, as in the script's case."""
    _reconcile(host, kernel, [])
    started = time.perf_counter()
    _reconcile(host, kernel, known)
    taken = time.perf_counter() - started
    kernel.close()
    return taken


def _reconcile(host: Namespace, kernel: Kernel, known: Sequence[Peer]) -> None:
    wanted = _wanted(known)
    host.run(kernel.reconcile, lambda: wanted)


def _scripts(known: Sequence[Peer]) -> list[tuple[str, str]]:
    """Write what dcos-net's commands would be, for all peers at once."""
    names = [(str(peer.vtep.ip.ip), peer.vtep.mac, str(peer.agent_ip), str(peer.subnets[0].subnet)) for peer in known]
    neighbours = [f"neigh replace {vtep} lladdr {mac} dev vtep1024 nud permanent" for vtep, mac, _, _ in names]
    forwardings = [f"fdb replace {mac} dev vtep1024 dst {agent} self permanent" for _, mac, agent, _ in names]
    routes = [f"route replace {subnet} via {vtep} dev vtep1024" for vtep, _, _, subnet in names]
    routes += [f"route replace {agent}/32 via {vtep} dev vtep1024 table 42" for vtep, _, agent, _ in names]
    return [("ip", "\n".join(neighbours)), ("bridge", "\n".join(forwardings)), ("ip", "\n".join(routes))]


def _by_hand(scripts: Sequence[tuple[str, str]]) -> float:
    own = _vtep(1)
    for command in (
        "ip link add vtep1024 type vxlan id 1024 dstport 64000",
        f"ip link set vtep1024 address {own.mac} up",
        f"ip addr add {own.ip} dev vtep1024",
    ):
        subprocess.run(command.split(), check=True)
    started = time.perf_counter()
    for program, script in scripts:
        subprocess.run([program, "-batch", "-"], input=f"{script}\n", text=True, check=True)
    return time.perf_counter() - started


def one_more(samples: int) -> list[float]:
    """Add a peer to many, again and again; the seconds of each, as a running agent takes them."""
    taken = []
    known = peers(MANY + samples)
    with _host() as host, tempfile.TemporaryDirectory() as folder:
        kernel = Kernel(Path(folder))
        for _ in range(2):
            _reconcile(host, kernel, known[:MANY])
        for count in range(MANY + 1, MANY + samples + 1):
            started = time.perf_counter()
            _reconcile(host, kernel, known[:count])
            taken.append(time.perf_counter() - started)
        kernel.close()
    return taken


def figures_of_all(taken: dict[str, list[float]]) -> list[Figure]:
    """Answer how both compare."""
    ratio = median_ratio(taken[FROM_NOTHING], taken[BY_HAND])
    return [
        Figure(name=f"{MANY} peers from nothing, as a part of {BY_HAND}", value=ratio, unit="", bar=1.5),
        *(Figure(name=f"  {way}", value=median_ms(durations), unit="ms") for way, durations in taken.items()),
    ]


def figures_of_one(taken: list[float]) -> list[Figure]:
    """Answer the median."""
    return [Figure(name=f"one more peer beside {MANY}", value=median_ms(taken), unit="ms", bar=50.0)]
