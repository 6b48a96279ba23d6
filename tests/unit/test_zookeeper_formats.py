# SPDX-License-Identifier: Apache-2.0
"""What is written in ZooKeeper says who may use it: a newer dni, agents of one family, those who know of removals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Address, ip_network

import msgspec
import pytest
from kazoo.client import KazooClient

from dni_driver.core.errors import Refused, StoreError
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.registry import Host
from dni_driver.registry.zookeeper import ZooKeeperRegistry, ground
from tests.unit.registries import DCOS, DEV, DUAL, FIRST, TOLD, Open, audit, host, nodes

pytestmark = pytest.mark.zookeeper


OTHER = define("other", [ip_network("10.65.0.0/16")])
SIX = IPv6Address("fd00::1")


def test_a_registry_of_a_newer_version_is_refused(connect: Open, raw: KazooClient, zookeeper_url: str) -> None:
    connect().overlays()
    raw.set(f"/{zookeeper_url.rpartition('/')[2]}/format", b"9")
    for attempt in (lambda: connect().overlays(), lambda: connect().register(host()), lambda: connect().news(0)):
        with pytest.raises(StoreError, match=r"written by a newer dni \(version 9\): install that one"):
            attempt()


def test_a_registry_that_becomes_newer_while_an_agent_runs_is_left_as_it_is(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry, place = connect(), f"/{zookeeper_url.rpartition('/')[2]}"
    registry.define(DCOS)
    registry.define(OTHER)
    registry.register(host())
    held = registry.lease("dcos", 4, FIRST)
    registry.begin_removal("other", FIRST)
    own = raw.get(f"{place}/format")[0]
    raw.set(f"{place}/format", b"9")
    before = nodes(raw, place)
    attempts: list[Callable[[], object]] = [
        lambda: registry.define(DEV),
        lambda: registry.widen(DUAL),
        lambda: registry.set_backend("dcos", "direct"),
        lambda: registry.begin_removal("dcos", FIRST),
        lambda: registry.keep("other"),
        lambda: registry.end_removal("other"),
        lambda: registry.use(FIRST, ["dcos"]),
        lambda: registry.register(msgspec.structs.replace(host(), reclaim_after=5.0)),
        lambda: registry.register(host(7)),
        lambda: registry.register(Host(agent_ip=FIRST + 2, identity="host 0", boot="boot", formerly=FIRST)),
        lambda: registry.widen_vteps(IPv4Network("44.128.0.0/16")),
        lambda: registry.lease("dcos", 4, FIRST),
        lambda: registry.confirm(AgentSubnet(overlay="dcos", subnet=ip_network("9.0.9.0/24")), FIRST),
        lambda: registry.give_back(held, FIRST),
        lambda: registry.seen(FIRST),
        lambda: registry.tell(FIRST, TOLD),
    ]
    for attempt in attempts:
        raw.set(f"{place}/format", own)
        registry.overlays()
        raw.set(f"{place}/format", b"9")
        with pytest.raises(StoreError, match=r"written by a newer dni \(version 9\): install that one"):
            attempt()
    after = nodes(raw, place)
    assert {node: after.get(node) for node in before} == before
    assert [node for node in after.keys() - before.keys() if after[node] or "." in node] == [], "but empty folders"


def format_of(raw: KazooClient, zookeeper_url: str) -> bytes:
    version: bytes = raw.get(f"/{zookeeper_url.rpartition('/')[2]}/format")[0]
    return version


def test_while_an_overlay_is_leaving_the_registry_is_for_those_who_know_what_that_means(
    connect: Open, raw: KazooClient, zookeeper_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older dni that is at work writes nothing from then on, and one that starts reads nothing."""
    registry, older = connect(), connect()
    registry.define(DCOS)
    registry.define(DEV)
    older.register(host())
    held = older.lease("dcos", 4, FIRST)
    registry.begin_removal("dcos", FIRST)
    registry.begin_removal("dev", FIRST)
    assert format_of(raw, zookeeper_url) == b"5"
    with monkeypatch.context() as patch:
        patch.setattr(ground, "VERSION", 4)
        for attempt in (
            lambda: older.define(OTHER),
            lambda: older.lease("dcos", 4, FIRST),
            lambda: connect().overlays(),
        ):
            with pytest.raises(StoreError, match=r"written by a newer dni \(version 5\)"):
                attempt()
    registry.register(host(1))
    assert format_of(raw, zookeeper_url) == b"5"
    assert registry.end_removal("dev")
    assert format_of(raw, zookeeper_url) == b"5"
    registry.keep("dcos")
    assert format_of(raw, zookeeper_url) == b"1"
    assert older.lease("dcos", 4, FIRST) != held


def test_that_is_said_beside_where_vteps_come_from_and_how_agents_are_named(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry = connect()
    registry.define(DCOS)
    registry.define(DEV)
    registry.begin_removal("dcos", FIRST)
    registry.register(Host(agent_ip=SIX, identity="six", boot="b", vtep_subnet=IPv4Network("44.128.0.0/12")))
    assert format_of(raw, zookeeper_url) == b"8"
    registry.end_removal("dcos")
    assert format_of(raw, zookeeper_url) == b"4"
    registry.begin_removal("dev", FIRST)
    registry.widen_vteps(IPv4Network("44.128.0.0/10"))
    assert format_of(raw, zookeeper_url) == b"8"
    registry.keep("dev")
    assert format_of(raw, zookeeper_url) == b"4"


def test_overlays_that_an_older_dni_recorded_are_not_leaving(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry, place = connect(), f"/{zookeeper_url.rpartition('/')[2]}/overlays"
    registry.define(DCOS)
    assert b"leaving" not in raw.get(place)[0]
    assert (registry.leaving(), registry.overlays()) == ({}, [DCOS])
    registry.begin_removal("dcos", FIRST)
    registry.keep("dcos")
    assert b"leaving" not in raw.get(place)[0]


def test_a_registry_that_a_newer_dni_made_anew_is_left_as_it_is(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry, place = connect(), f"/{zookeeper_url.rpartition('/')[2]}"
    registry.define(DCOS)
    raw.delete(place, recursive=True)
    connect().define(DEV)
    raw.delete(f"{place}/format")
    raw.create(f"{place}/format", b"9")
    before = nodes(raw, place)
    with pytest.raises(StoreError, match=r"written by a newer dni \(version 9\)"):
        registry.define(DCOS)
    assert nodes(raw, place) == before


def test_the_format_says_which_family_agents_are_named_by(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    """A dni that knows agents of IPv4 addresses alone, and version 1, says so instead of stumbling over others."""
    place = f"/{zookeeper_url.rpartition('/')[2]}/format"
    one = connect()
    one.register(host())
    assert raw.get(place)[0] == b"1"
    one.register(Host(agent_ip=SIX, identity="host 0", boot="boot", formerly=FIRST))
    assert raw.get(place)[0] == b"2"
    assert connect().register(Host(agent_ip=SIX + 1, identity="host 1", boot="boot"))
    audit(one)


def test_of_two_first_agents_of_different_families_one_is_refused(connect: Open) -> None:
    """Whichever comes first: between looking and writing, the other one may come."""
    one, two = connect(), connect()
    one.overlays()
    start = threading.Barrier(2)
    outcomes: list[object] = []

    def join(registry: ZooKeeperRegistry, agent: Host) -> None:
        start.wait()
        try:
            outcomes.append(registry.register(agent))
        except Refused as error:
            outcomes.append(error)

    agents = (host(), Host(agent_ip=SIX, identity="six", boot="boot"))
    joining = [threading.Thread(target=join, args=each) for each in zip((one, two), agents, strict=True)]
    for thread in joining:
        thread.start()
    for thread in joining:
        thread.join()
    assert [isinstance(outcome, Refused) for outcome in outcomes].count(True) == 1
    assert len(one.members()) == 1


def test_what_is_no_registry_is_left_alone(connect: Open, raw: KazooClient, zookeeper_url: str) -> None:
    raw.create(f"/{zookeeper_url.rpartition('/')[2]}/overlays", b"another's", makepath=True)
    with pytest.raises(StoreError, match=r"is no registry of dni: use another place"):
        connect().define(DCOS)
