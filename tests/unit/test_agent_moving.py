# SPDX-License-Identifier: Apache-2.0
"""An agent whose address changes in the middle of what it does: all that it held is its own under the new one."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.agent.ports import Time
from dni_driver.agent.presence import Presence
from dni_driver.agent.room import Leasing
from dni_driver.core.errors import NotFound
from dni_driver.registry import Registry, open_registry
from dni_driver.store import Store, fence, pools
from tests.fakes import AGENT, DCOS, FakeClock
from tests.unit.agents import create_network, frozen
from tests.unit.every_registry import url
from tests.unit.joiner import DEV, LOOPBACK, OTHER, directory, held, leases, registry, store
from tests.unit.meanwhile import after, before
from tests.unit.tiny_overlay import TINY, Host, host

__all__ = ["directory", "host", "registry", "store", "url"]


class Mover:
    """A host with an address that changes."""

    def __init__(self, store: Store, address: IPv4Address = AGENT) -> None:
        """Have that address."""
        self.address = address
        self.identity = Identity(store, lambda: self.address, None)

    def move(self, to: IPv4Address = OTHER) -> None:
        """Have another, and be noticed by whoever looks for that."""
        self.address = to
        self.identity.moves()


@pytest.mark.parametrize("networks", [0, 1])
@pytest.mark.parametrize("call", ["register", "overlays", "leaving"])
def test_a_join_goes_on_under_the_address_that_it_began_with(
    store: Store, registry: Registry, call: str, networks: int
) -> None:
    mover = Mover(store)
    Joining(store, registry, mover.identity, DCOS, FakeClock()).join()
    if networks:
        create_network(store, FakeClock().now)
    joining = Joining(store, after(registry, call, mover.move), mover.identity, DCOS, FakeClock())
    assert joining.join() == []
    assert leases(registry) == [(str(AGENT), "9.0.0.0/24")]
    assert joining.join() == []
    assert leases(registry) == [(str(OTHER), "9.0.0.0/24")]
    assert held(store) == ["dcos 9.0.0.0/24"]


def test_a_host_whose_network_comes_up_during_a_join_takes_it_up_with_the_next(
    store: Store, registry: Registry
) -> None:
    mover = Mover(store, LOOPBACK)
    Joining(store, registry, mover.identity, DCOS, FakeClock()).join()
    create_network(store, FakeClock().now)
    joining = Joining(store, after(registry, "overlays", mover.move), mover.identity, DCOS, FakeClock())
    assert [joining.join(), joining.join()] == [[], []]
    assert leases(registry) == [(str(OTHER), "9.0.0.0/24")]
    with store.read() as tx:
        assert fence.disputes(tx) == {}


def test_what_is_told_during_a_join_is_told_of_the_agent_that_the_registry_knows(
    store: Store, url: str, tmp_path: Path
) -> None:
    """The store has the former address until the join is through."""
    clock, registry = FakeClock(), open_registry(url, tmp_path)
    joining = Joining(store, registry, Identity(store, lambda: AGENT, None), DCOS, clock)
    joining.join()
    joining.define(DEV)
    with store.write() as tx:
        pools.use_overlay(tx, "dev", 4, None, clock.now)
    told = []
    meanwhile = after(registry, "overlays", lambda: told.append(presence.tell()))
    joining = Joining(store, meanwhile, Identity(store, lambda: OTHER, None), DCOS, clock)
    presence = Presence(store, registry, joining, None, Time(clock=clock, monotonic=clock, sleep=clock.pass_by))
    joining.join()
    clock.pass_by(1000)
    told.append(presence.tell())
    assert told == [[], []]
    registry.begin_removal("dev", OTHER)
    with pytest.raises(NotFound):
        registry.forget(AGENT)
    registry.close()


def test_room_that_is_asked_for_under_the_former_address_is_not_given(host: Host) -> None:
    host.create_network()
    mover = Mover(host.store)
    joining = Joining(host.store, host.registry, mover.identity, TINY, host.clock)
    joining.join()

    def move() -> None:
        mover.move()
        joining.join()

    late = before(host.registry, "lease", move)
    room = Leasing(host.store, late, mover.identity, list, joining.in_turn, frozen(host.clock))
    for _ in range(4):
        host.take()
    (problem,) = room.look()
    assert "there is no agent 192.0.2.10 in the registry" in problem
    host.clock.pass_by(60)
    assert room.look() == []
    assert leases(host.registry) == [(str(OTHER), "10.80.0.0/28"), (str(OTHER), "10.80.0.16/28")]
    assert joining.join() == []
