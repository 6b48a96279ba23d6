# SPDX-License-Identifier: Apache-2.0
"""A ZooKeeper with rubbish in it: the node is named at once, and the command that is named with it mends it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from ipaddress import ip_network

import msgspec
import pytest
from kazoo.client import KazooClient

from dni_driver.core.deadline import deadline
from dni_driver.core.errors import DniError, InUse, NotFound, StoreError, Unavailable
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.registry import Host as Agent
from dni_driver.registry.zookeeper import journal
from dni_driver.registry.zookeeper.layout import shard_of_agent
from tests.members import joined
from tests.removing import remove
from tests.unit.cluster import DEV, Host, Make, eventually, join, make, url
from tests.unit.registries import DCOS, FIRST, Open, audit, host

pytestmark = pytest.mark.zookeeper

__all__ = ["make", "url"]

RUBBISH = (
    b"\xff\xfe\x00rubbish",
    b"{",
    b"[1, 2]",
    b'{"following": 2, "overlays": [{"number": 1, "name": "dcos", "subnet": "nine"}]}',
    b'{"following": 2, "overlays": [{"number": 1, "name": "dcos", "subnet": "9.0.0.0/8", "prefix": 4}]}',
)
RUBBISH_OF_AN_AGENT = (
    b"\xff\xfe\x00rubbish",
    b"{",
    b'{"identity": "host 0", "vtep": "44"}',
    b'{"identity": "host 0", "vtep": "44.128.0.1/20", "subnets": [[1, "nine"]]}',
)
HOLDERS = ("subnets/1/v4-0/9.0.0.0-24", "vteps/0/44.128.0.1")
AT_ONCE = 8.0
"""Seconds; who waits for something in vain gives up after 15."""
LATE = define("late", [ip_network("10.66.0.0/16")])


def place_of(url: str) -> str:
    return f"/{url.rpartition('/')[2]}"


def node_of(raw: KazooClient, folder: str, name: object) -> str:
    """Answer where a node lies, in whichever shard."""
    return next(
        f"{folder}/{shard}/{name}"
        for shard in raw.get_children(folder)
        if str(name) in raw.get_children(f"{folder}/{shard}")
    )


def obey(raw: KazooClient, text: str) -> str:
    """Do what a complaint says is to be done; answer the node that it named."""
    found = re.search(r"zkCli\.sh -server (\S+) (delete|deleteall) (/\S+)$", text)
    assert found is not None, text
    assert found[1] == ",".join(f"{one}:{port}" for one, port in raw.hosts)
    raw.delete(found[3], recursive=found[2] == "deleteall")
    return found[3]


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_rubbish_in_the_overlays_is_named_with_both_ways_out(
    connect: Open, raw: KazooClient, zookeeper_url: str, rubbish: bytes
) -> None:
    registry, place = connect(), place_of(zookeeper_url)
    registry.define(DCOS)
    raw.set(f"{place}/overlays", rubbish)
    began = time.monotonic()
    for attempt in (registry.overlays, lambda: registry.define(DEV), lambda: registry.lease("dcos", 4, FIRST)):
        with pytest.raises(StoreError, match=rf"damaged: {place}/overlays in ZooKeeper is not understood") as said:
            attempt()
        assert f"put {place}/overlays back as it was, or have the agents that run" in str(said.value)
        assert str(said.value).endswith(f"deleteall {place}")
    assert time.monotonic() - began < AT_ONCE


@pytest.mark.parametrize("rubbish", RUBBISH_OF_AN_AGENT)
def test_rubbish_in_an_agents_record_is_named_and_deleted_it_is_written_anew(
    connect: Open, raw: KazooClient, zookeeper_url: str, rubbish: bytes
) -> None:
    registry = connect()
    registry.define(DCOS)
    mine = host()
    vtep = registry.register(mine)
    held = registry.lease("dcos", 4, FIRST)
    node = node_of(raw, f"{place_of(zookeeper_url)}/agents", FIRST)
    raw.set(node, rubbish)
    began = time.monotonic()
    for attempt in (
        lambda: registry.register(mine),
        registry.members,
        lambda: registry.leases(FIRST),
        lambda: connect().news(0),
    ):
        with pytest.raises(StoreError, match=rf"damaged: {node} in ZooKeeper is not understood") as said:
            attempt()
    assert time.monotonic() - began < AT_ONCE
    assert obey(raw, str(said.value)) == node
    again = type(mine)(agent_ip=FIRST, identity="host 0", boot="boot", vtep=vtep)
    assert registry.register(again) == vtep
    registry.confirm(held, FIRST)
    assert [one.held for one in registry.leases(FIRST)] == [held]
    audit(registry)


@pytest.mark.parametrize(
    ("node", "attempt"),
    [
        ("agents/16/rubbish", lambda registry: registry.members()),
        ("alive/16/rubbish", lambda registry: registry.alive()),
        ("vteps/0/rubbish", lambda registry: registry.register(host(5))),
        ("subnets/1/v4-0/rubbish", lambda registry: registry.lease("dcos", 4, FIRST)),
        ("uses/1/16/rubbish", lambda registry: remove(registry, "dcos")),
    ],
)
def test_a_node_that_is_none_of_dnis_is_named_and_goes_on_command(
    connect: Open, raw: KazooClient, zookeeper_url: str, node: str, attempt: Callable[..., object]
) -> None:
    registry, place = connect(), place_of(zookeeper_url)
    registry.define(DCOS)
    registry.register(host())
    raw.create(f"{place}/{node}/more", b"", makepath=True)
    with pytest.raises(StoreError, match=rf"{place}/{node} in ZooKeeper is none of dni's; delete it") as said:
        attempt(registry)
    assert obey(raw, str(said.value)) == f"{place}/{node}"
    attempt(registry)


@pytest.mark.parametrize("node", ["format", "vteps"])
def test_rubbish_in_what_all_rests_on_is_named(
    connect: Open, raw: KazooClient, zookeeper_url: str, node: str
) -> None:
    connect().register(host())
    raw.set(f"{place_of(zookeeper_url)}/{node}", b"\xffrubbish")
    for attempt in (lambda: connect().register(host(1)), lambda: connect().define(DEV)):
        with pytest.raises(StoreError, match=rf"damaged: {place_of(zookeeper_url)}/{node} in ZooKeeper is not"):
            attempt()


@pytest.mark.parametrize("node", ["overlays", "vteps"])
def test_what_all_rests_on_and_is_missing_is_named(
    connect: Open, raw: KazooClient, zookeeper_url: str, node: str
) -> None:
    registry = connect()
    registry.define(DCOS)
    raw.delete(f"{place_of(zookeeper_url)}/{node}", recursive=True)
    with pytest.raises(StoreError, match=rf"damaged: {place_of(zookeeper_url)}/{node} in ZooKeeper is missing"):
        registry.define(DEV)


def test_a_holder_that_is_rubbish_is_named_and_deleted_it_is_written_anew(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry = connect()
    registry.define(DCOS)
    registry.register(host())
    held = registry.lease("dcos", 4, FIRST)
    for name, attempt in (
        ("subnets/1/v4-0/9.0.0.0-24", lambda: registry.confirm(held, FIRST)),
        ("vteps/0/44.128.0.1", lambda: registry.register(host())),
    ):
        node = f"{place_of(zookeeper_url)}/{name}"
        raw.set(node, b"\xffrubbish")
        with pytest.raises(StoreError, match=rf"damaged: {node} in ZooKeeper is not understood") as said:
            attempt()
        assert obey(raw, str(said.value)) == node
        attempt()
    assert [one.subnets for one in registry.members()] == [(held,)]
    audit(registry)


def test_what_says_who_holds_something_is_written_anew_by_agents_that_run(
    make: Make, raw: KazooClient, url: str
) -> None:
    """And nobody else gets it: the agent finds what was deleted when it joins again, as it does every minute."""
    (one,) = join(make, 1)
    for node in HOLDERS:
        raw.delete(f"{place_of(url)}/{node}")
    one()._loops.joining.hurry()  # noqa: SLF001 - not to wait for a minute
    eventually(lambda: all(raw.exists(f"{place_of(url)}/{node}") for node in HOLDERS))
    assert one.registry is not None
    audit(one.registry)


def test_what_another_got_after_it_was_deleted_by_hand_is_nobodys_but_its(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    """Neither when the first to have it is forgotten, nor when that takes another address, nor when it is back."""
    registry, gone = connect(), connect()
    registry.define(DCOS)
    gone.register(host())
    held = gone.lease("dcos", 4, FIRST)
    for node in HOLDERS:
        raw.delete(f"{place_of(zookeeper_url)}/{node}")
    assert str(registry.register(host(1)).ip.ip) == "44.128.0.1"
    assert registry.lease("dcos", 4, FIRST + 1) == held
    assert gone.leases(FIRST) == []
    with pytest.raises(InUse, match=rf"held by agent {FIRST + 1}"):
        gone.confirm(held, FIRST)
    gone.register(Agent(agent_ip=FIRST + 2, identity="host 0", boot="boot", formerly=FIRST))
    assert str(gone.register(msgspec.structs.replace(host(2), identity="host 0")).ip.ip) == "44.128.0.2"
    audit(registry)
    gone.close()
    raw.delete(f"{place_of(zookeeper_url)}/vteps/0/44.128.0.2")
    assert str(connect().register(host(3)).ip.ip) == "44.128.0.2"
    eventually(lambda: FIRST + 2 not in registry.alive())
    registry.forget(FIRST + 2)
    audit(registry)


def test_an_overlays_node_that_was_emptied_keeps_nobody_waiting(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    """What was left of overlays that the node no longer names was in the way of new ones, for 15 s, in vain."""
    registry = connect()
    registry.define(DCOS)
    joined(registry, FIRST).lease("dcos", 4, FIRST)
    raw.set(f"{place_of(zookeeper_url)}/overlays", b"{}")
    began = time.monotonic()
    registry.define(DCOS)
    registry.confirm(AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/24")), FIRST)
    assert time.monotonic() - began < AT_ONCE
    audit(registry)


def test_a_folder_that_was_deleted_by_hand_is_made_anew_by_agents_that_run(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry = connect()
    vtep = registry.register(host())
    raw.delete(f"{place_of(zookeeper_url)}/agents/{shard_of_agent(FIRST):02d}", recursive=True)
    with deadline(AT_ONCE):
        assert registry.register(msgspec.structs.replace(host(), vtep=vtep)) == vtep
    audit(registry)


def test_an_agent_whose_holdings_were_deleted_by_hand_can_be_forgotten(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry, gone = connect(), connect()
    registry.define(DCOS)
    gone.register(host(1))
    gone.lease("dcos", 4, FIRST + 1)
    gone.close()
    for node in ("subnets/1/v4-0/9.0.0.0-24", "vteps/0/44.128.0.1"):
        raw.delete(f"{place_of(zookeeper_url)}/{node}")
    eventually(lambda: registry.alive() == frozenset())
    registry.forget(FIRST + 1)
    assert registry.members() == []


def test_an_agent_whose_last_sign_of_life_was_deleted_is_not_reclaimed_and_gives_another(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry, gone = connect(), connect()
    registry.define(DCOS)
    registry.register(host())
    gone.register(msgspec.structs.replace(host(1), reclaim_after=3600.0))
    gone.lease("dcos", 4, FIRST + 1)
    gone.close()
    eventually(lambda: registry.alive() == {FIRST})
    seen = f"{place_of(zookeeper_url)}/seen"
    for agent in (FIRST, FIRST + 1):
        raw.delete(node_of(raw, seen, agent))
    assert registry.reclaim() == []
    assert node_of(raw, seen, FIRST + 1), "its time is counted from now on"
    assert [lease.agent_ip for lease in registry.leases()] == [FIRST + 1]
    registry.seen(FIRST)
    assert node_of(raw, seen, FIRST)
    with pytest.raises(NotFound):
        registry.seen(FIRST + 2)


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have followers compare their place in the journal with its end more often than every half minute."""
    monkeypatch.setattr(journal, "_CHECKED_EVERY", 0.5)


@pytest.mark.usefixtures("watchful")
def test_agents_write_a_registry_anew_that_is_deleted_as_a_complaint_says(
    make: Make, raw: KazooClient, url: str
) -> None:
    hosts = join(make, 3)
    hosts[0]().define_overlay(DEV)
    for one in hosts:
        eventually(lambda one=one: len(one.holds()) == 2)  # type: ignore[misc]
    held = [one.holds() for one in hosts]
    raw.set(f"{place_of(url)}/overlays", RUBBISH[0])
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"overlays in ZooKeeper is not understood") as said:
        hosts[1]().define_overlay(LATE)
    assert time.monotonic() - began < AT_ONCE
    obey(raw, str(said.value))
    for one in hosts:
        eventually(lambda one=one: has_again(one, held[hosts.index(one)]), 60)  # type: ignore[misc]
    assert [one.holds() for one in hosts] == held
    eventually(lambda: defines(hosts[2]))
    for one in hosts:
        eventually(lambda one=one: len(one.holds()) == 3 and len(one.knows()) == 2)  # type: ignore[misc]
    assert hosts[0].registry is not None
    audit(hosts[0].registry)


def has_again(one: Host, held: list[str]) -> bool:
    """Tell whether the registry says of a host what its store says."""
    assert one.registry is not None
    try:
        leased = {f"{lease.held.overlay} {lease.held.subnet}" for lease in one.registry.leases(one.ip)}
        return leased == set(held) and one.ip in one.registry.alive()
    except (Unavailable, StoreError):
        return False


def defines(one: Host) -> bool:
    try:
        one().define_overlay(LATE)
    except DniError:
        return False
    return True


@pytest.mark.usefixtures("watchful")
def test_a_registry_that_another_made_anew_is_read_from_its_beginning(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    follower, other = connect(), connect()
    follower.define(DCOS)
    other.overlays()
    assert follower.news(0).whole
    raw.delete(place_of(zookeeper_url), recursive=True)
    with pytest.raises(Unavailable, match="was deleted, and agents write it anew: try again in a moment"):
        other.overlays()
    other.define(DEV)
    other.register(host(3))
    eventually(lambda: [peer.agent_ip for peer in follower.news(0.2).peers] == [FIRST + 3])
