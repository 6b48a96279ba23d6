# SPDX-License-Identifier: Apache-2.0
"""ZooKeeper is away, hangs, loses its leader or ends a session, and everything is as before when it is back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from dni_driver.core.errors import Unavailable
from dni_driver.registry import open_registry
from dni_driver.registry.zookeeper import link
from tests.lab.zookeeper import ZooKeeper, ensemble
from tests.scratch import fast_directory
from tests.unit.registries import DCOS, FIRST, Open, audit, eventually, expire, host, is_alive, opening

pytestmark = pytest.mark.zookeeper


def test_an_ensemble_that_is_away_is_named_and_nothing_waits_for_it_for_long(tmp_path: Path) -> None:
    registry = open_registry("zookeeper://127.0.0.1:1,127.0.0.1:2/dni", tmp_path)
    began = time.monotonic()
    with pytest.raises(
        Unavailable, match=r"does not answer \(ZooKeeper at 127\.0\.0\.1:1, 127\.0\.0\.1:2\): containers go on"
    ):
        registry.overlays()
    with pytest.raises(Unavailable):
        registry.news(0)
    registry.close()
    assert time.monotonic() - began < 40


def test_an_agent_that_starts_before_its_registry_finds_it_when_it_comes(own_server: ZooKeeper) -> None:
    own_server.stop()
    with opening(f"zookeeper://{own_server.address}") as connect:
        registry = connect()
        own_server.start()
        eventually(lambda: registry.overlays() == [])


def test_after_an_outage_everything_is_as_before(own_server: ZooKeeper) -> None:
    with opening(f"zookeeper://{own_server.address}") as connect:
        one, two = connect(), connect()
        one.define(DCOS)
        one.register(host())
        two.register(host(1))
        mine = one.lease("dcos", 4, FIRST)
        two.news(5)
        own_server.kill()
        with pytest.raises(Unavailable):
            one.lease("dcos", 4, FIRST)
        own_server.start()
        eventually(lambda: one.register(host()) is not None)
        assert one.lease("dcos", 4, FIRST) != mine
        eventually(lambda: bool(two.news(1)))
        assert is_alive(two)
        audit(one)


def test_a_registry_that_hangs_is_given_up_in_time(own_server: ZooKeeper) -> None:
    with opening(f"zookeeper://{own_server.address}") as connect:
        registry = connect()
        registry.define(DCOS)
        own_server.freeze()
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            registry.overlays()
        assert time.monotonic() - began < 20
        own_server.thaw()
        eventually(lambda: registry.overlays() == [DCOS])


def test_a_server_that_hangs_is_left_however_much_it_is_asked(own_server: ZooKeeper) -> None:
    """A sign of life is asked for only where there is nothing else to ask."""
    with opening(f"zookeeper://{own_server.address}") as connect:
        registry = connect()
        registry.define(DCOS)
        own_server.freeze()

        def is_left() -> bool:
            registry.link.client.exists_async("/")
            return not registry.link.client.connected

        eventually(is_left, seconds=3 * link.SESSION_SECONDS)
        own_server.thaw()
        eventually(lambda: registry.overlays() == [DCOS])


def test_who_asks_for_news_in_the_moment_in_which_the_registry_is_closed_hears_none(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = connect()
    registry.news(5)

    def closing() -> None:
        registry.close()
        raise registry.link.away()

    monkeypatch.setattr(registry.ground, "prepare", closing)
    assert not registry.news(60)


def test_an_agent_whose_session_expired_comes_back_to_life(connect: Open) -> None:
    one, two = connect(), connect()
    one.register(host())
    two.news(5)
    one.news(5)
    expire(one)
    eventually(lambda: not is_alive(two))
    eventually(lambda: one.register(host()) is not None and is_alive(two))
    assert not two.news(0)
    two.register(host(1))
    eventually(lambda: any(peer.agent_ip == FIRST + 1 for peer in one.news(1).peers))


def test_an_agent_that_loses_its_server_while_it_joins_says_so(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which session it has nobody can tell meanwhile."""
    registry = connect()
    registry.register(host())
    monkeypatch.setattr(KazooClient, "client_id", None)
    with pytest.raises(Unavailable, match="does not answer"):
        registry.register(host())


def test_a_new_process_of_a_host_takes_over_from_one_that_was_killed(connect: Open) -> None:
    killed, successor = connect(), connect()
    vtep = killed.register(host())
    assert successor.register(host()) == vtep
    killed.close()
    assert is_alive(successor)


def test_an_ensemble_that_loses_its_leader_goes_on() -> None:
    with fast_directory() as directory, ensemble(Path(directory) / "ensemble", 3) as servers:
        url = f"zookeeper://{','.join(server.address for server in servers)}/dni"
        with opening(url) as connect:
            one, two = connect(), connect()
            one.define(DCOS)
            one.register(host())
            two.register(host(1))
            mine = one.lease("dcos", 4, FIRST)
            two.news(5)
            next(server for server in servers if server.mode() == "leader").kill()
            eventually(lambda: one.register(host()) is not None, 60)
            assert one.leases(FIRST)[0].held == mine
            second = one.lease("dcos", 4, FIRST)
            eventually(lambda: any(second in peer.subnets for peer in two.news(1).peers), 60)
            audit(two)
