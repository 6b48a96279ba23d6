# SPDX-License-Identifier: Apache-2.0
"""Who is not heard of loses what it holds in ZooKeeper, and who is back in that moment loses nothing."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from dni_driver.core.errors import InUse
from dni_driver.core.overlays import AgentSubnet
from dni_driver.registry.zookeeper import ZooKeeperRegistry
from dni_driver.registry.zookeeper.agents import Agents
from dni_driver.registry.zookeeper.layout import RECLAIMER
from tests.unit.registries import DCOS, FIRST, Open, audit, eventually, host, when_it_begins

pytestmark = pytest.mark.zookeeper


def test_an_agent_that_comes_and_goes_while_others_are_reclaimed_keeps_what_it_holds(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has given a sign of life, and hands out addresses by that, although it is not alive at the moment."""
    registry, brief = connect(), msgspec.structs.replace(host(1), reclaim_after=0.001)

    def come_and_go() -> None:
        once = connect()
        once.register(brief)
        once.seen(FIRST + 1)
        once.close()
        eventually(lambda: FIRST + 1 not in registry.alive())

    registry.define(DCOS)
    registry.register(host())
    come_and_go()
    held = registry.lease("dcos", 4, FIRST + 1)
    now = Agents._now  # noqa: SLF001 - between looking and forgetting

    def late(agents: Agents) -> float | None:
        come_and_go()
        return now(agents)

    with monkeypatch.context() as patched:
        patched.setattr(Agents, "_now", late)
        assert registry.reclaim() == []
    assert held in [one.held for one in registry.leases(FIRST + 1)]
    eventually(lambda: registry.reclaim() == [FIRST + 1])
    assert registry.leases() == []


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (lambda registry, _: registry.forget(FIRST), "is alive"),
        (lambda registry, held: registry.confirm(held, FIRST + 2, FIRST), f"is held by agent {FIRST}"),
    ],
    ids=["to forget it", "to take over what it holds"],
)
def test_an_agent_that_comes_back_in_the_moment_in_which_it_loses_something_keeps_it(
    connect: Open,
    monkeypatch: pytest.MonkeyPatch,
    attempt: Callable[[ZooKeeperRegistry, AgentSubnet], object],
    said: str,
) -> None:
    registry, gone, back = connect(), connect(), connect()
    registry.define(DCOS)
    gone.register(host())
    held = gone.lease("dcos", 4, FIRST)
    gone.close()
    eventually(lambda: registry.alive() == frozenset())
    when_it_begins(monkeypatch, registry, lambda: back.register(host()))
    with pytest.raises(InUse, match=said):
        attempt(registry, held)
    assert [one.held for one in back.leases(FIRST)] == [held]
    audit(back)


def test_who_is_no_longer_the_one_that_looks_reclaims_nothing(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = connect()
    registry.register(host())
    registry.reclaim()
    monkeypatch.setattr(Agents, "_is_reclaimer", lambda _: True)
    other = connect()
    registry.close()
    eventually(lambda: other.link.exists(RECLAIMER) is None)
    assert other.reclaim() == []
