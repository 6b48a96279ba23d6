# SPDX-License-Identifier: Apache-2.0
"""An overlay leaves ZooKeeper once nobody holds any of it, whatever somebody does in that moment."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from kazoo.client import KazooClient

from dni_driver.core.errors import InUse
from dni_driver.core.overlays import Address
from dni_driver.registry import Host
from dni_driver.registry.zookeeper import ground
from dni_driver.registry.zookeeper.removals import Removals
from tests.members import joined
from tests.removing import remove
from tests.unit.registries import DCOS, DEV, FIRST, Open, eventually, host, when_it_begins

pytestmark = pytest.mark.zookeeper


def test_an_overlay_goes_although_a_holder_is_known_by_nothing_else(
    connect: Open, raw: KazooClient, zookeeper_url: str
) -> None:
    registry, gone = connect(), connect()
    registry.define(DCOS)
    gone.register(host(1))
    gone.lease("dcos", 4, FIRST + 1)
    gone.close()
    eventually(lambda: registry.alive() == frozenset())
    place = f"/{zookeeper_url.rpartition('/')[2]}/agents"
    for shard in raw.get_children(place):
        if str(FIRST + 1) in raw.get_children(f"{place}/{shard}"):
            raw.delete(f"{place}/{shard}/{FIRST + 1}")
    remove(registry, "dcos")
    assert registry.overlays() == []


@pytest.mark.parametrize("is_another_leaving", [False, True])
def test_a_lease_that_was_begun_before_its_overlay_began_to_leave_is_refused(
    connect: Open, monkeypatch: pytest.MonkeyPatch, *, is_another_leaving: bool
) -> None:
    """Also where another is leaving already, so that `format` stays as it is."""
    registry, other = connect(), connect()
    registry.define(DCOS)
    registry.define(DEV)
    registry.register(host())
    if is_another_leaving:
        registry.begin_removal("dev", FIRST)
        registry.overlays()
    make_room = ground.Ground.make_room

    def late(one: ground.Ground, paths: Sequence[str]) -> None:
        if one is registry.ground and "dcos" not in other.leaving():
            other.begin_removal("dcos", FIRST + 1)
        make_room(one, paths)

    monkeypatch.setattr(ground.Ground, "make_room", late)
    with pytest.raises(InUse, match="'dcos' is being removed"):
        registry.lease("dcos", 4, FIRST)
    assert registry.leases() == []
    assert registry.end_removal("dcos")


def test_an_overlay_that_is_kept_in_the_moment_in_which_nobody_holds_any_stays(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, other = connect(), connect()
    registry.define(DCOS)
    registry.begin_removal("dcos", FIRST)
    when_it_begins(monkeypatch, registry, lambda: other.keep("dcos", FIRST + 1))
    with pytest.raises(InUse, match=r"'dcos' is in use on 192\.0\.2\.2"):
        registry.end_removal("dcos")
    assert registry.overlays() == [DCOS]


def test_an_overlay_stays_that_somebody_says_to_use_in_the_moment_in_which_it_goes(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, other = connect(), connect()
    registry.define(DCOS)
    joined(other, FIRST + 1)
    registry.begin_removal("dcos", FIRST)
    when_it_begins(monkeypatch, registry, lambda: other.use(FIRST + 1, ["dcos"]))
    assert not registry.end_removal("dcos")
    assert registry.overlays() == [DCOS]


def test_an_overlay_stays_whose_last_holder_takes_it_to_another_address_in_that_moment(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, moving = connect(), connect()
    registry.define(DCOS)
    moving.register(host())
    held = moving.lease("dcos", 4, FIRST)
    registry.begin_removal("dcos", FIRST)
    is_known, moves = Removals._is_known, [Host(agent_ip=FIRST + 2, identity="host 0", boot="boot", formerly=FIRST)]  # noqa: SLF001 - between looking and forgetting

    def late(removals: Removals, agent_ip: Address) -> bool:
        while moves:
            moving.register(moves.pop())
        return is_known(removals, agent_ip)

    monkeypatch.setattr(Removals, "_is_known", late)
    assert not registry.end_removal("dcos")
    assert [one.held for one in registry.leases(FIRST + 2)] == [held]


def test_a_host_with_a_new_address_says_anew_what_it_uses(connect: Open) -> None:
    registry = connect()
    registry.define(DCOS)
    registry.register(host())
    registry.use(FIRST, ["dcos"])
    registry.register(Host(agent_ip=FIRST + 2, identity="host 0", boot="boot", formerly=FIRST))
    registry.use(FIRST + 2, ["dcos"])
    with pytest.raises(InUse, match=rf"'dcos' is in use on {FIRST + 2}"):
        registry.begin_removal("dcos", FIRST)
