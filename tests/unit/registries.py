# SPDX-License-Identifier: Apache-2.0
"""Registries in a ZooKeeper as tests open, end, ask and audit them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv4Network, ip_network

import msgspec
import pytest
from kazoo.client import KazooClient

from dni_driver.core.addresses.counts import Counts, HalfCounts, SubnetCounts
from dni_driver.core.errors import DniError, Refused
from dni_driver.core.overlays import Address, AgentSubnet, define
from dni_driver.core.registry_address import ZooKeeperAddress, read_address
from dni_driver.registry import Access, Host
from dni_driver.registry.zookeeper import ZooKeeperRegistry, ground
from dni_driver.registry.zookeeper.layout import VTEPS, Record
from dni_driver.registry.zookeeper.link import Changes, Link
from tests.removing import remove

DCOS = define("dcos", [ip_network("9.0.0.0/8")])
DUAL = define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")])
DEV = define("dev", [ip_network("10.64.0.0/16")])
HALF = HalfCounts(125, 1, 0, 124)
TOLD = Counts(
    as_of=1.0, subnets=(SubnetCounts(overlay="dcos", subnet="9.0.0.0/24", since=1.0, mesos=HALF, docker=HALF),)
)
FIRST = IPv4Address("192.0.2.1")

Open = Callable[..., ZooKeeperRegistry]


@contextmanager
def opening(url: str) -> Iterator[Open]:
    """Give how registries at one place are opened, and close them afterwards."""
    opened: list[ZooKeeperRegistry] = []

    def one_more(access: Access = Access(), crash_point: Callable[[str], None] = lambda _: None) -> ZooKeeperRegistry:  # noqa: B008
        address = read_address(url)
        assert isinstance(address, ZooKeeperAddress)
        opened.append(ZooKeeperRegistry(address, access, crash_point))
        return opened[-1]

    yield one_more
    for registry in opened:
        registry.close()


def host(number: int = 0, vtep_subnet: IPv4Network | None = None) -> Host:
    return Host(agent_ip=FIRST + number, identity=f"host {number}", boot="boot", vtep_subnet=vtep_subnet)


def expire(registry: ZooKeeperRegistry) -> None:
    """Have ZooKeeper end the session, as it does with one not heard of."""
    client = registry.link.client
    twin = KazooClient(",".join(registry.link.address.servers), client_id=client.client_id)
    twin.start()
    twin.stop()
    twin.close()


def is_alive(registry: ZooKeeperRegistry, number: int = 0) -> bool:
    return {member.agent_ip: member.alive for member in registry.members()}[FIRST + number]


def eventually(what: Callable[[], bool], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with suppress(DniError):
            if what():
                return
        time.sleep(0.05)
    pytest.fail("it does not come to be")


def audit(registry: ZooKeeperRegistry) -> None:
    """Find every holder's node to agree with its record, and the other way round."""
    link = registry.link
    records: dict[Address, Record] = registry.ground.records()
    definitions, _ = registry.ground.definitions()
    held = {
        (number, name): str(holder.data, "ascii")
        for number in definitions.names()
        for shard in link.children(f"subnets/{number}")
        for name in link.children(f"subnets/{number}/{shard}")
        if (holder := link.get(f"subnets/{number}/{shard}/{name}"))
    }
    recorded = {
        (one.overlay, one.subnet.replace("/", "-")): str(agent)
        for agent, record in records.items()
        for one in record.subnets
        if one.overlay in definitions.names()
    }
    assert held == recorded
    vteps = {
        name: str(holder.data, "ascii")
        for shard in link.children(VTEPS)
        for name in link.children(f"{VTEPS}/{shard}")
        if (holder := link.get(f"{VTEPS}/{shard}/{name}"))
    }
    assert vteps == {record.vtep.partition("/")[0]: str(agent) for agent, record in records.items() if record.vtep}


def life(registry: ZooKeeperRegistry) -> None:
    """Everything that writes, as one agent does it. What is refused the second time was done the first."""
    nine, ten = (AgentSubnet(overlay="dcos", subnet=ip_network(f"9.0.{number}.0/24")) for number in (9, 10))
    moved = Host(agent_ip=FIRST + 2, identity="host 0", boot="boot", formerly=FIRST)
    steps: list[Callable[[], object]] = [
        lambda: registry.define(DCOS),
        lambda: registry.define(DEV),
        lambda: registry.register(host()),
        lambda: registry.leases(FIRST) or registry.lease("dcos", 4, FIRST),
        lambda: registry.use(FIRST, ["dcos"]),
        lambda: registry.confirm(nine, FIRST),
        lambda: registry.confirm(ten, FIRST + 1),
        lambda: registry.confirm(ten, FIRST, FIRST + 1),
        lambda: registry.give_back(nine, FIRST),
        lambda: registry.widen(DUAL),
        lambda: registry.set_backend("dev", "direct"),
        lambda: registry.seen(FIRST),
        lambda: registry.tell(FIRST, TOLD),
        lambda: registry.tell(FIRST, msgspec.structs.replace(TOLD, subnets=())),
        lambda: registry.forget(FIRST + 1),
        registry.reclaim,
        lambda: registry.use(FIRST, []),
        lambda: registry.set_backend("dev", "vxlan"),
        lambda: registry.register(moved),
        lambda: registry.register(Host(agent_ip=FIRST, identity="host 0", boot="boot", formerly=FIRST + 2)),
        lambda: registry.begin_removal("dev", FIRST),
        lambda: registry.keep("dev", FIRST),
        lambda: registry.use(FIRST, []),
        lambda: remove(registry, "dev"),
    ]
    for step in steps:
        with suppress(Refused):
            step()


def nodes(raw: KazooClient, place: str) -> dict[str, bytes]:
    """Answer all nodes below a place, with their data."""
    found = {place: raw.get(place)[0]}
    for name in raw.get_children(place):
        found |= nodes(raw, f"{place}/{name}")
    return found


def when_it_begins(
    monkeypatch: pytest.MonkeyPatch, registry: ZooKeeperRegistry, happens: Callable[[], object]
) -> None:
    """Have something happen once, when a registry has looked and begins to change what it found."""
    transaction, to_come = ground.Ground.transaction, [happens]

    def late(one: ground.Ground) -> Changes:
        begun = transaction(one)
        while one is registry.ground and to_come:
            to_come.pop()()
        return begun

    monkeypatch.setattr(ground.Ground, "transaction", late)


@contextmanager
def noting(registry: ZooKeeperRegistry) -> Iterator[list[str]]:
    """Note what a registry asks ZooKeeper."""
    asked: list[str] = []
    begin = Link._begin  # noqa: SLF001 - every question goes through it

    def noted(link: Link, call: str, path: str, *more: object) -> object:
        if link is registry.link:
            asked.append(f"{call} {path}")
        return begin(link, call, path, *more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Link, "_begin", noted)
        yield asked
