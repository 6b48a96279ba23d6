# SPDX-License-Identifier: Apache-2.0
"""What agents tell of how full they are costs ZooKeeper little, and comes back where it was lost."""

from __future__ import annotations

import msgspec
import pytest

from dni_driver.core.addresses.counts import Counts, HalfCounts
from dni_driver.core.errors import NotFound
from dni_driver.core.overlays import Address
from dni_driver.registry.zookeeper import counts
from dni_driver.registry.zookeeper.counts import AgentCounts
from dni_driver.registry.zookeeper.layout import COUNTS, of_agent, shard_of_agent
from dni_driver.registry.zookeeper.link import Changes
from tests.unit.registries import FIRST, TOLD, Open, eventually, expire, host, is_alive, noting

pytestmark = pytest.mark.zookeeper


def told(used: int) -> Counts:
    half = HalfCounts(125, used, 0, 125 - used)
    return Counts(as_of=float(used), subnets=(msgspec.structs.replace(TOLD.subnets[0], docker=half),))


def test_to_tell_how_full_an_agent_is_costs_one_transaction_for_each_change_and_else_nothing(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for a look now and then."""
    monkeypatch.setattr(counts, "LOOKED_AT_EVERY", 1e9)
    kinds: list[str] = []
    one, two = connect(crash_point=kinds.append), connect()
    one.register(host())
    two.news(5)
    two.news(0)
    one.tell(FIRST, told(1))
    kinds.clear()
    with noting(one) as asked, noting(two) as watched:
        for used in (1, 1, 2, 2, 3):
            one.tell(FIRST, told(used))
        assert not two.news(0), "nobody is told who does not ask"
    assert kinds == ["before a transaction", "after a transaction"] * 2
    assert asked == []
    assert [call for call in watched if "counts" in call] == []
    with noting(two) as asked:
        assert two.told([FIRST]) == {FIRST: told(3)}
    assert asked == [f"get counts/{shard_of_agent(FIRST):02d}/{FIRST}"]


def test_after_its_session_an_agent_looks_whether_what_it_told_is_there_still(connect: Open) -> None:
    one, two = connect(), connect()
    one.register(host())
    one.tell(FIRST, told(1))
    expire(one)
    eventually(lambda: not is_alive(two))
    two.forget(FIRST)
    assert two.told([FIRST]) == {}

    def tell() -> bool:
        one.register(host())
        one.tell(FIRST, told(1))
        return True

    eventually(tell)
    assert two.told([FIRST]) == {FIRST: told(1)}


@pytest.mark.parametrize("before", [0, 1])
def test_an_agent_that_is_forgotten_while_it_tells_leaves_nothing_behind(
    before: int, connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look of who forgets and its transaction."""
    one, two = connect(), connect()
    one.register(host())
    for used in range(before):
        one.tell(FIRST, told(used))
    one.link.drop(of_agent("alive", FIRST))
    eventually(lambda: not is_alive(two))
    drop, tells = AgentCounts.drop, [7]

    def dropped(of: AgentCounts, changes: Changes, agent_ip: Address) -> None:
        drop(of, changes, agent_ip)
        while tells:
            one.tell(FIRST, told(tells.pop()))

    monkeypatch.setattr(AgentCounts, "drop", dropped)
    two.forget(FIRST)
    assert tells == []
    assert two.link.get(of_agent(COUNTS, FIRST)) is None
    with pytest.raises(NotFound):
        one.tell(FIRST, told(8))
    assert two.link.get(of_agent(COUNTS, FIRST)) is None


@pytest.mark.parametrize("damage", [b"\xff", b'{"version": 1}', None])
def test_counts_that_somebody_damaged_or_deleted_are_written_anew_by_and_by(
    damage: bytes | None, connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = connect(), connect()
    one.register(host())
    one.tell(FIRST, told(1))
    if damage is None:
        two.link.remove_tree(of_agent(COUNTS, FIRST))
    else:
        two.link.put_each({of_agent(COUNTS, FIRST): damage})
    monkeypatch.setattr(counts, "LOOKED_AT_EVERY", 0.01)

    def is_told_again() -> bool:
        one.tell(FIRST, told(1))
        return two.told([FIRST]) == {FIRST: told(1)}

    eventually(is_told_again)


def test_counts_of_a_newer_dni_or_none_at_all_keep_nobody_from_the_others(connect: Open) -> None:
    one = connect()
    agents = [FIRST + number for number in range(4)]
    for number, agent in enumerate(agents):
        one.register(host(number))
        one.tell(agent, told(number))
    one.link.put_each({of_agent(COUNTS, FIRST + 1): b'{"version": 2}', of_agent(COUNTS, FIRST + 2): b"\xff"})
    one.link.remove_tree(of_agent(COUNTS, FIRST + 3))
    found = one.told(agents)
    assert found.keys() == {FIRST, FIRST + 1, FIRST + 2}
    assert found[FIRST] == told(0)
    assert found[FIRST + 1] == "was written by a newer dni (version 2)"
    assert str(found[FIRST + 2]).startswith("is not understood (")
