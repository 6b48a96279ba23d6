# SPDX-License-Identifier: Apache-2.0
"""A host defines overlays and removes them, for good or on trial for a network that is being created."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from dni_driver.agent import joining as joining_module
from dni_driver.core.errors import DeadlineExceeded, InUse, NotFound, Refused
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import Address, AgentSubnet, define
from dni_driver.core.records import CREATION_SECONDS, AddressState, NetworkRecord
from dni_driver.registry import Registry
from dni_driver.store import Store, leaving, networks, pools
from tests.fakes import AGENT, DCOS, FakeClock
from tests.removing import remove, remove_here
from tests.unit.agents import NETWORK, claim, create_network
from tests.unit.joiner import DEV, Start, agent_ip, directory, held, known, leases, registry, start, store

__all__ = ["directory", "registry", "start", "store"]


def test_a_defined_overlay_can_be_used_at_once(start: Start, store: Store, registry: Registry) -> None:
    joining = start()
    joining.define(DEV)
    assert agent_ip(store) == AGENT
    assert held(store) == ["dev 10.64.0.0/24"]
    joining.define(DEV)
    assert leases(registry) == [(str(AGENT), "10.64.0.0/24")]


def test_a_definition_that_is_refused_leaves_nothing_behind(start: Start, store: Store, registry: Registry) -> None:
    joining = start()
    joining.join()
    with pytest.raises(InUse):
        joining.define(define("dev", [ip_network("9.9.0.0/16")]))
    assert (known(store), registry.overlays()) == ([DCOS], [DCOS])


def test_an_overlay_on_a_plain_pool_is_refused_and_leaves_nothing_behind(
    start: Start, store: Store, registry: Registry
) -> None:
    """Both would hand out the same addresses."""
    joining = start()
    joining.join()
    with store.write() as tx:
        pools.use_plain(tx, ip_network("10.64.7.0/24"), None, 1)
    with pytest.raises(InUse, match=r"overlaps plain pool 10\.64\.7\.0/24 of this host"):
        joining.define(DEV)
    assert (registry.overlays(), known(store)) == ([DCOS], [DCOS])


def test_an_overlay_defined_elsewhere_on_a_plain_pool_of_this_host_is_a_problem(
    start: Start, store: Store, registry: Registry
) -> None:
    with store.write() as tx:
        pools.use_plain(tx, ip_network("10.64.7.0/24"), None, 1)
    registry.define(DEV)
    (problem,) = start().join()
    assert "overlaps plain pool 10.64.7.0/24 of this host" in problem
    assert known(store) == [DCOS]


def test_an_overlay_defined_once_more_is_no_trial_any_longer(start: Start, store: Store) -> None:
    """A person wants it now, whatever becomes of the network it was first defined for."""
    joining = start()
    joining.try_out(DEV)
    joining.define(DEV)
    with store.read() as tx:
        assert [pool.trial for pool in pools.every(tx)] == [False]


def trials(store: Store) -> list[str | None]:
    with store.read() as tx:
        return [pool.overlay for pool in pools.every(tx) if pool.trial]


def test_an_overlay_whose_network_never_came_goes_again(start: Start, store: Store, registry: Registry) -> None:
    """Dockerd's call gave up on the agent, which finished all the same."""
    clock = FakeClock()
    joining = start(clock=clock)
    joining.try_out(DEV)
    joining.join()
    assert (known(store), trials(store)) == ([DCOS, DEV], ["dev"])
    clock.pass_by(CREATION_SECONDS)
    assert joining.join() == []
    assert (known(store), registry.overlays()) == ([DCOS], [DCOS])


def test_nothing_is_begun_with_an_overlay_that_goes_again_before_it_is_given_back(
    start: Start, store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, marked = FakeClock(), []
    joining = start(clock=clock)
    joining.try_out(DEV)
    clock.pass_by(CREATION_SECONDS)
    give_back = registry.give_back

    def noted(held: AgentSubnet, agent_ip: Address) -> None:
        with store.read() as tx:
            marked.append(list(leaving.every(tx)))
        give_back(held, agent_ip)

    monkeypatch.setattr(registry, "give_back", noted)
    joining.join()
    assert marked == [["dev"]]


def test_an_overlay_whose_network_was_created_stays_although_nobody_settled_it(start: Start, store: Store) -> None:
    """The plugin died between the network's record and that."""
    clock = FakeClock()
    joining = start(clock=clock)
    joining.join()
    joining.try_out(DEV)
    with store.write() as tx:
        networks.add(tx, NetworkRecord(id=NETWORK, overlay="dev", options=NetworkOptions(), mtu=1450))
    clock.pass_by(CREATION_SECONDS)
    joining.join()
    assert (known(store), trials(store)) == ([DCOS, DEV], [])


def test_a_trial_that_the_registry_refuses_leaves_nothing_behind(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.join()
    with pytest.raises(InUse):
        joining.try_out(define("dev", [ip_network("9.9.0.0/16")]))
    assert (known(store), registry.overlays(), trials(store)) == ([DCOS], [DCOS], [])


def test_an_overlay_that_the_registry_has_already_is_no_trial(start: Start, store: Store, registry: Registry) -> None:
    """Another host wants it, whatever becomes of a network here."""
    registry.define(DEV)
    start().try_out(DEV)
    assert (known(store), trials(store)) == ([DEV], [])


def test_one_who_waits_too_long_for_the_registry_is_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining_module, "TURN_SECONDS", 0.01)
    joining = start()
    with joining._turn, pytest.raises(DeadlineExceeded, match="another change of the overlays is under way"):  # noqa: SLF001
        joining.define(DEV)


def test_a_removed_overlay_is_gone_from_store_and_registry(start: Start, store: Store, registry: Registry) -> None:
    joining = start()
    joining.join()
    joining.define(DEV)
    remove_here(joining, "dev")
    assert (known(store), registry.overlays()) == ([DCOS], [DCOS])
    assert leases(registry) == [(str(AGENT), "9.0.0.0/24")]
    with pytest.raises(NotFound, match="no overlay 'dev'"):
        remove_here(joining, "dev")


def test_an_overlay_can_be_removed_that_only_the_store_or_only_the_registry_knows(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.define(DEV)
    remove(registry, "dev")
    remove_here(joining, "dev")
    assert known(store) == []
    registry.define(DEV)
    remove_here(joining, "dev")
    assert registry.overlays() == []


def test_the_default_overlay_stays_unless_the_settings_say_otherwise(
    start: Start, store: Store, registry: Registry
) -> None:
    start().join()
    with pytest.raises(Refused, match="'dcos' is the default overlay"):
        remove_here(start(), "dcos")
    changed = define("dcos", [ip_network("10.0.0.0/8")])
    remove_here(start(default=changed), "dcos")
    assert start(default=changed).join() == []
    assert known(store) == registry.overlays() == [changed]


def dev_in_use(store: Store) -> None:
    with store.write() as tx:
        pools.use_overlay(tx, "dev", 4, None, FakeClock().now)


def test_an_overlay_with_a_network_is_not_removed(start: Start, store: Store) -> None:
    joining = start(default=DEV)
    joining.join()
    joining.define(DCOS)
    create_network(store, 1)
    with store.write() as tx:
        networks.set_name(tx, NETWORK, "front")
    with pytest.raises(InUse, match=r"has the Docker network 'front' on this host: .*docker network rm front"):
        remove_here(joining, "dcos")
    assert DCOS in known(store)


def test_an_overlay_with_an_address_in_use_is_not_removed(start: Start, store: Store) -> None:
    joining = start(default=DEV)
    joining.join()
    joining.define(DCOS)
    with store.write() as tx:
        pools.use_overlay(tx, "dcos", 4, None, 1)
    claim(store, "9.0.0.130", 1, AddressState.RESERVED)
    with pytest.raises(InUse, match=r"address 9\.0\.0\.130 of overlay 'dcos' is in use .*`dni repair` frees it"):
        remove_here(joining, "dcos")


def test_an_overlay_whose_network_is_being_created_is_not_removed(start: Start, store: Store) -> None:
    joining = start()
    joining.join()
    joining.define(DEV)
    dev_in_use(store)
    with pytest.raises(InUse, match="a Docker network is being created on overlay 'dev'"):
        remove_here(joining, "dev")


WIDE = define("dev", [*DEV.subnets(), ip_network("fd64::/64")])


def test_an_overlay_on_trial_gets_its_second_family_and_stays_on_trial(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.join()
    joining.try_out(DEV)
    joining.try_out(WIDE)
    assert registry.overlays() == known(store) == [DCOS, WIDE]
    assert held(store)[1:] == ["dev 10.64.0.0/24", "dev fd64::/80"]
    with store.read() as tx:
        assert pools.on_trial(tx, "dev")


def test_one_that_is_there_to_stay_gets_none(start: Start, store: Store, registry: Registry) -> None:
    joining = start()
    joining.join()
    joining.define(DEV)
    with pytest.raises(InUse, match="'dev' exists already"):
        joining.try_out(WIDE)
    assert registry.overlays() == known(store) == [DCOS, DEV]


def test_a_user_who_defines_what_is_on_trial_keeps_it(start: Start, store: Store) -> None:
    joining = start()
    joining.join()
    joining.try_out(DEV)
    joining.define(DEV)
    with store.read() as tx:
        assert not pools.on_trial(tx, "dev")


def test_a_second_family_that_a_crash_kept_out_of_the_store_is_found_again(
    start: Start, store: Store, registry: Registry
) -> None:
    joining = start()
    joining.join()
    joining.try_out(DEV)
    registry.widen(WIDE)
    assert start().join() == []
    assert known(store) == [DCOS, WIDE]
    assert held(store)[1:] == ["dev 10.64.0.0/24", "dev fd64::/80"]
