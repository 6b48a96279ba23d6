# SPDX-License-Identifier: Apache-2.0
"""Agents that join at once take turns at ZooKeeper: each gets a number of its own, and who hangs holds up nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, ip_network

import pytest

from dni_driver.core.deadline import deadline
from dni_driver.core.errors import DeadlineExceeded, Exhausted, Unavailable
from dni_driver.core.overlays import AgentSubnet
from dni_driver.registry.zookeeper import link, turn
from dni_driver.registry.zookeeper.link import Conflict, Link
from dni_driver.registry.zookeeper.numbers import Numbered, Search
from dni_driver.registry.zookeeper.turn import Turn
from tests.members import joined
from tests.unit.registries import DCOS, FIRST, Open, audit, eventually, host

pytestmark = pytest.mark.zookeeper


NUMBERED = Numbered(folder="vteps", first=1, last=100, number_of=lambda name: int(name.rpartition(".")[2]))


@pytest.mark.parametrize("way", ["settled", "settled_in_turn"])
def test_who_finds_others_in_its_way_again_and_again_asks_ever_less_often(connect: Open, way: str) -> None:
    attempts: list[object] = []

    def attempt(*turn: object) -> None:
        attempts.append(turn)
        raise Conflict("somebody else")

    with deadline(2.0), pytest.raises(DeadlineExceeded, match=r"again and again \(somebody else\)"):
        getattr(connect().ground, way)(attempt)
    assert 3 < len(attempts) < 50


def test_ten_agents_that_join_at_once_never_get_the_same(connect: Open) -> None:
    connect().define(DCOS)
    ready, got = threading.Barrier(10), []

    def join(number: int) -> None:
        registry = connect()
        ready.wait(30)
        vtep = registry.register(host(number))
        got.append((str(vtep.ip.ip), str(registry.lease("dcos", 4, FIRST + number).subnet)))

    threads = [threading.Thread(target=join, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    vteps, subnets = zip(*got, strict=True)
    assert sorted(vteps, key=IPv4Address) == [f"44.128.0.{number}" for number in range(1, 11)]
    assert sorted(subnets) == [f"9.0.{number}.0/24" for number in range(10)]
    audit(connect())


def test_forty_agents_that_join_at_once_take_turns_and_none_looks_often(connect: Open) -> None:
    connect().define(DCOS)
    many = 40
    asked: list[str] = []
    begin = Link._begin  # noqa: SLF001 - every question goes through it

    def counted(link: Link, call: str, path: str, *more: object) -> object:
        asked.append(path)
        return begin(link, call, path, *more)  # type: ignore[arg-type]

    with ThreadPoolExecutor(many) as pool, pytest.MonkeyPatch.context() as patch:
        registries = list(pool.map(lambda _: connect(), range(many)))
        assert all(pool.map(lambda registry: registry.overlays(), registries))
        patch.setattr(Link, "_begin", counted)
        vteps = list(pool.map(lambda n: registries[n].register(host(n)), range(many)))
        subnets = list(pool.map(lambda n: registries[n].lease("dcos", 4, FIRST + n), range(many)))
    assert sorted(vtep.ip.ip for vtep in vteps) == [IPv4Address("44.128.0.0") + n for n in range(1, many + 1)]
    assert sorted(str(one.subnet) for one in subnets) == sorted(f"9.0.{n}.0/24" for n in range(many))
    assert len(asked) < 35 * many
    assert [registries[0].link.children(line) for line in ("line/vteps", "line/subnets/1/v4")] == [[], []]
    audit(registries[0])


def test_who_waits_behind_one_that_hangs_goes_ahead(connect: Open) -> None:
    stuck, other = connect(), connect()
    stuck.define(DCOS)
    other.overlays()
    Turn(stuck.link, stuck.ground.make_room).stand("line/vteps")
    began = time.monotonic()
    assert str(other.register(host(1)).ip.ip) == "44.128.0.1"
    assert time.monotonic() - began < 10
    assert len(other.link.children("line/vteps")) == 1, "its own place is left, that of the other stays"


def test_a_line_of_which_several_hang_moves_on(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "_HANGS_AFTER", 0.1)
    monkeypatch.setattr(turn, "_STANDS_STILL", 0.4)
    stuck, other = connect(), connect()
    stuck.define(DCOS)
    other.overlays()
    for _ in range(4):
        Turn(stuck.link, stuck.ground.make_room).stand("line/vteps")
    assert str(other.register(host(1)).ip.ip) == "44.128.0.1"
    assert len(other.link.children("line/vteps")) == 4


def test_a_place_that_is_made_later_than_anybody_waits_for_it_is_left_again(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would know of it, and it would stay for as long as the session."""
    registry = connect()
    registry.register(host())
    registry.link.make_folders(["line/vteps"])
    before = registry.link.exists("line/vteps").cversion
    monkeypatch.setattr(link, "ANSWER_SECONDS", 0.0)
    with pytest.raises(Unavailable):
        Turn(registry.link, registry.ground.make_room).stand("line/vteps")
    monkeypatch.undo()
    eventually(lambda: registry.link.exists("line/vteps").cversion == before + 2)
    assert registry.link.children("line/vteps") == []


def test_who_gives_up_waiting_leaves_the_line(connect: Open) -> None:
    first, other = connect(), connect()
    first.define(DCOS)
    joined(other, FIRST)
    for _ in range(2):
        Turn(first.link, first.ground.make_room).stand("line/subnets/1/v4")
    with pytest.raises(DeadlineExceeded, match="many agents join at once"), deadline(1.5):
        other.lease("dcos", 4, FIRST)
    eventually(lambda: len(first.link.children("line/subnets/1/v4")) == 2)


def test_a_number_that_was_told_is_kept_while_its_agent_lives_and_goes_with_it(connect: Open) -> None:
    told, other = connect(), connect()
    told.define(DCOS)
    held = Turn(told.link, told.ground.make_room)
    held.stand("line/vteps")
    told.link.client.set(f"{told.link.address.path}/line/vteps/q-0000000000", b"1")
    assert str(other.register(host(1)).ip.ip) == "44.128.0.2"
    told.close()
    eventually(lambda: other.link.children("line/vteps") == [])
    assert str(connect().register(host(2)).ip.ip) == "44.128.0.1"


def test_who_finds_its_number_taken_stands_in_the_line_anew(connect: Open) -> None:
    """As where one took it that stood in no line."""
    registry = connect()
    registry.register(host(0))
    numbers: list[int | None] = []

    def takes_what_is_taken(turn: Turn) -> int | None:
        numbers.append(turn.number(Search(registry.link, NUMBERED)))
        if len(numbers) < 4:
            raise Conflict("it is taken")
        return numbers[-1]

    assert registry.ground.settled_in_turn(takes_what_is_taken) == 2
    assert numbers == [2, 2, 2, 2]
    eventually(lambda: registry.link.children("line/vteps") == [])
    assert registry.link.exists("line/vteps").cversion == 4, "two places, made and left"


def test_a_number_is_kept_however_many_are_told_theirs_before_it_is_taken(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who take are slower than who hands out; so that waits for them, but not for ever."""
    monkeypatch.setattr(turn, "TOGETHER", 2)
    monkeypatch.setattr(turn, "_AHEAD", 3)
    monkeypatch.setattr(turn, "_PAUSE", 0.01)
    registry = connect()
    registry.register(host())
    turns = [Turn(registry.link, registry.ground.make_room) for _ in range(9)]
    for one in turns:
        one.stand("line/vteps")
    search = Search(registry.link, NUMBERED)
    assert [one.number(search) for one in turns] == list(range(2, 11))
    for one in turns:
        with one:
            pass
    eventually(lambda: registry.link.children("line/vteps") == [])


def test_all_who_wait_are_told_at_once_and_those_for_whom_there_is_none_too(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five want one of the three that are left; who is first looks for all."""
    small = IPv4Network("44.128.0.0/29")
    first = connect()
    for number in range(3):
        first.register(host(number, vtep_subnet=small))
    blocking = Turn(first.link, first.ground.make_room)
    blocking.stand("line/vteps")
    looked: list[int] = []
    lowest = Search.lowest

    def noted(search: Search, wanted: int, kept: Collection[int] = ()) -> list[int]:
        looked.append(wanted)
        return lowest(search, wanted, kept)

    monkeypatch.setattr(Search, "lowest", noted)

    def join(number: int) -> str:
        try:
            return str(connect().register(host(number)).ip.ip)
        except Exhausted:
            return "none"

    with ThreadPoolExecutor(5) as pool:
        joining = [pool.submit(join, number) for number in range(10, 15)]
        eventually(lambda: len(first.link.children("line/vteps")) == 6)
        first.link.drop("line/vteps/q-0000000000")
        got = sorted(one.result() for one in joining)
    assert got == ["44.128.0.4", "44.128.0.5", "44.128.0.6", "none", "none"]
    assert looked[-1] == 5
    audit(first)


def test_the_lowest_that_is_free_is_found_without_reading_what_is_full(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = connect()
    registry.define(DCOS)
    held = [AgentSubnet(overlay="dcos", subnet=ip_network(f"9.{n // 256}.{n % 256}.0/24")) for n in range(600)]
    for n, one in enumerate(held):
        registry.confirm(one, FIRST + n)
    asked: list[str] = []
    every_child = Link.every_child

    def noted(link: Link, paths: Sequence[str]) -> list[list[str]]:
        asked.extend(paths)
        return every_child(link, paths)

    monkeypatch.setattr(Link, "every_child", noted)
    assert str(registry.lease("dcos", 4, FIRST).subnet) == "9.2.88.0/24"
    assert asked == ["subnets/1", "subnets/1/v4-2"]
    registry.give_back(held[300], FIRST + 300)
    asked.clear()
    assert registry.lease("dcos", 4, FIRST) == held[300]
    assert asked == ["subnets/1", "subnets/1/v4-1"]
