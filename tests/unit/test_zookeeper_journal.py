# SPDX-License-Identifier: Apache-2.0
"""How agents follow ZooKeeper's registry: by a journal that is kept short and a digest, with few questions."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network

import pytest
from kazoo.client import KazooClient

from dni_driver.core.overlays import AgentSubnet
from dni_driver.registry.zookeeper import ZooKeeperRegistry, digest, follower, journal
from dni_driver.registry.zookeeper.digest import Digest
from tests.unit.registries import DCOS, DEV, FIRST, Open, host, noting

pytestmark = pytest.mark.zookeeper


def test_a_new_agent_costs_each_other_two_questions_however_many_there_are(connect: Open) -> None:
    one, two = connect(), connect()
    one.define(DCOS)
    for number in range(200):
        one.confirm(AgentSubnet(overlay="dcos", subnet=ip_network(f"9.1.{number}.0/24")), FIRST + number)
    two.news(5)
    two.news(0)
    with noting(two) as asked, ThreadPoolExecutor(1) as thread:
        heard = thread.submit(two.news, 20)
        one.register(host(250))
        assert [peer.agent_ip for peer in heard.result().peers] == [FIRST + 250]
    assert [call.split()[0] for call in asked][-2:] == ["get", "exists"]
    assert len(asked) <= 3, "the third is whether there was anything yet"


def test_who_hears_nothing_watches_for_one_thing_once_however_often_it_looks(connect: Open) -> None:
    """ZooKeeper's client keeps each watch that it is given, as long as nothing happens."""
    registry = connect()
    registry.define(DCOS)
    for _ in range(5):
        registry.news(0)
    watches = registry.link.client._data_watchers  # noqa: SLF001 - nobody else tells
    assert [len(one) for one in watches.values()] == [1]


def test_an_entry_that_a_deleted_journal_had_is_not_looked_for_in_the_next_one(
    connect: Open, raw: KazooClient, zookeeper_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told, and not there: everything was read again and again, without a pause."""
    monkeypatch.setattr(journal, "_CHECKED_EVERY", 0.0)
    one, two = connect(), connect()
    one.define(DCOS)
    two.news(0)
    assert not two.news(0)
    two.link.rung.clear()
    one.define(DEV)
    assert two.link.rung.wait(20)
    raw.delete(f"/{zookeeper_url.rpartition('/')[2]}", recursive=True)
    connect().define(DCOS)
    assert two.news(0).whole
    assert not two.news(0)


def test_many_changes_at_once_are_read_together(connect: Open) -> None:
    one, two = connect(), connect()
    one.define(DCOS)
    two.news(5)
    two.news(0)
    for number in range(100):
        one.confirm(AgentSubnet(overlay="dcos", subnet=ip_network(f"9.1.{number}.0/24")), FIRST + number)
    with noting(two) as asked:
        two.news(5)
    assert asked.count("get journal/e-0000000050") == 1
    assert len(asked) < 170


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a digest written at once, for few agents too."""
    monkeypatch.setattr(follower, "_DIGEST_WITHIN", 0.0)
    monkeypatch.setattr(digest, "WORTHWHILE", 1)


def populate(registry: ZooKeeperRegistry, numbers: Iterable[int]) -> None:
    for number in numbers:
        registry.register(host(number))
        registry.confirm(AgentSubnet(overlay="dcos", subnet=ip_network(f"9.1.{number}.0/24")), FIRST + number)


@pytest.mark.usefixtures("quick")
def test_a_newcomer_reads_the_digest_and_what_came_after_and_no_single_record(connect: Open) -> None:
    one = connect()
    one.define(DCOS)
    populate(one, range(30))
    one.news(5)
    populate(one, range(30, 40))
    one.give_back(AgentSubnet(overlay="dcos", subnet=ip_network("9.1.7.0/24")), FIRST + 7)
    gone = connect()
    gone.register(host(77))
    gone.close()
    one.forget(FIRST + 77)
    two = connect()
    with noting(two) as asked:
        found = two.news(5)
    assert found.whole
    assert not [call for call in asked if "agents" in call]
    held = {int(peer.agent_ip) - int(FIRST): [str(s.subnet) for s in peer.subnets] for peer in found.peers}
    assert held == {number: [] if number == 7 else [f"9.1.{number}.0/24"] for number in range(40)}
    one.register(host(50))
    assert [peer.agent_ip for peer in two.news(5).peers] == [FIRST + 50]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", ["older than the journal", "unreadable", "not whole"])
def test_a_digest_that_is_of_no_use_is_passed_over(
    damage: str, connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "KEPT", 10)
    monkeypatch.setattr(journal, "_TRIMMED_EVERY", 8)
    one = connect()
    one.define(DCOS)
    populate(one, range(5))
    one.news(5)
    assert len(one.link.children("digests")) == 64
    if damage == "older than the journal":
        populate(one, range(5, 30))
    elif damage == "unreadable":
        one.link.put_each({"digests/07": b"{"})
    else:
        one.link.remove_tree("digests/07")
    two = connect()
    with noting(two) as asked:
        found = two.news(5)
    assert {peer.agent_ip for peer in found.peers} == set(one.ground.records())
    assert [call for call in asked if "get agents/" in call]


@pytest.mark.usefixtures("quick")
def test_of_all_who_follow_one_writes_the_digest(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "EVERY", 20)
    monkeypatch.setattr(follower, "EVERY", 20)
    registries = [connect() for _ in range(5)]
    registries[0].define(DCOS)
    written: list[int] = []
    write = Digest._write  # noqa: SLF001 - to count

    def noted(one: Digest, place: int, *more: object) -> None:
        written.append(place)
        write(one, place, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Digest, "_write", noted)
    for round_ in range(3):
        populate(registries[0], range(10 * round_, 10 * round_ + 10))
        for registry in registries:
            registry.news(5)
    assert written == [21, 41, 61]


def test_no_node_has_many_children_and_none_is_large(connect: Open, raw: KazooClient, zookeeper_url: str) -> None:
    registry = connect()
    registry.define(DCOS)
    for number in range(600):
        registry.confirm(
            AgentSubnet(overlay="dcos", subnet=ip_network(f"9.{number // 256}.{number % 256}.0/24")), FIRST + number
        )
    most, largest = 0, 0

    def walk(path: str) -> None:
        nonlocal most, largest
        data, stat = raw.get(path)
        if not path.endswith("/journal"):
            most = max(most, stat.numChildren)
        largest = max(largest, len(data))
        for name in raw.get_children(path):
            walk(f"{path}/{name}")

    walk(f"/{zookeeper_url.rpartition('/')[2]}")
    assert most <= 256
    assert largest < 1000


def test_a_journal_is_kept_short_and_who_was_away_for_too_long_reads_everything(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "KEPT", 10)
    monkeypatch.setattr(journal, "_TRIMMED_EVERY", 8)
    one, two = connect(), connect()
    one.define(DCOS)
    one.register(host())
    two.news(5)
    for _ in range(10):
        one.give_back(one.lease("dcos", 4, FIRST), FIRST)
    assert len(one.link.children("journal")) <= 20
    monkeypatch.setattr(journal, "_CHECKED_EVERY", 0.0)
    found = two.news(5)
    assert found.whole
    assert [peer.agent_ip for peer in found.peers] == [FIRST]
