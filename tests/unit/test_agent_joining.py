# SPDX-License-Identifier: Apache-2.0
"""A host becomes an agent, and stays one through crashes and changes of address."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Network, ip_network

import pytest

from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.core.errors import Refused, StoreError, Unavailable
from dni_driver.core.overlays import Address, AgentSubnet, define
from dni_driver.registry import Host, Lease, Registry
from dni_driver.store import Store, peers
from tests.fakes import AGENT, DCOS, FakeClock
from tests.members import joined
from tests.unit.agents import create_network
from tests.unit.joiner import (
    DEV,
    LOOPBACK,
    OTHER,
    SIX,
    Start,
    agent_ip,
    directory,
    held,
    known,
    leases,
    registry,
    start,
    store,
)

__all__ = ["directory", "registry", "start", "store"]


def test_a_new_host_has_the_default_overlay_and_the_first_agent_subnet(
    start: Start, store: Store, registry: Registry
) -> None:
    assert start().join() == []
    assert (agent_ip(store), known(store), held(store)) == (AGENT, [DCOS], ["dcos 9.0.0.0/24"])
    assert leases(registry) == [(str(AGENT), "9.0.0.0/24")]


def test_a_second_start_writes_nothing(start: Start, store: Store, registry: Registry) -> None:
    start().join()
    before = leases(registry)
    commits: list[str] = []
    watched = Store(store.path, commits.append)
    assert Joining(watched, registry, Identity(watched, lambda: AGENT, None), DCOS, FakeClock()).join() == []
    watched.close()
    assert (commits, leases(registry)) == ([], before)
    assert held(store) == ["dcos 9.0.0.0/24"]


def test_both_families_are_leased(start: Start, store: Store) -> None:
    dual = define("dual", [ip_network("10.0.0.0/16"), ip_network("fd01:b::/64")])
    start(default=dual).join()
    assert held(store) == ["dual 10.0.0.0/24", "dual fd01:b::/80"]


def test_an_overlay_defined_on_another_host_is_joined(start: Start, store: Store, registry: Registry) -> None:
    start().join()
    registry.define(DEV)
    joined(registry, OTHER).lease("dev", 4, OTHER)
    start().join()
    assert held(store) == ["dcos 9.0.0.0/24", "dev 10.64.1.0/24"]


def test_a_lease_that_a_crash_kept_out_of_the_store_is_found_again(
    start: Start, store: Store, registry: Registry
) -> None:
    joined(registry, AGENT).define(DCOS)
    registry.lease("dcos", 4, AGENT)
    start().join()
    assert held(store) == ["dcos 9.0.0.0/24"]
    assert leases(registry) == [(str(AGENT), "9.0.0.0/24")]


def test_an_overlay_that_cannot_be_joined_keeps_no_other_from_it(
    start: Start, store: Store, registry: Registry
) -> None:
    registry.define(define("aaa", [ip_network("10.1.0.0/24")], (24, None)))
    joined(registry, OTHER).lease("aaa", 4, OTHER)
    (problem,) = start().join()
    assert "overlay 'aaa': overlay 'aaa' is full" in problem
    assert held(store) == ["dcos 9.0.0.0/24"]


def test_what_was_leased_of_one_family_is_given_back_where_the_other_is_full(
    start: Start, store: Store, registry: Registry
) -> None:
    """Nobody would use it, for as long as that lasts."""
    registry.define(define("two", [ip_network("10.80.0.0/26"), ip_network("fd01:c::/80")], (28, 80)))
    joined(registry, OTHER).lease("two", 6, OTHER)
    for _ in range(2):
        (problem,) = start().join()
        assert "overlay 'two': overlay 'two' is full" in problem
        assert leases(registry) == [(str(OTHER), "fd01:c::/80"), (str(AGENT), "9.0.0.0/24")]
        assert held(store) == ["dcos 9.0.0.0/24"]


def test_settings_that_contradict_the_registry_are_told_and_the_registry_holds(
    start: Start, store: Store, registry: Registry
) -> None:
    registry.define(DCOS)
    (problem,) = start(default=define("dcos", [ip_network("10.0.0.0/8")])).join()
    assert problem.startswith("the default overlay: overlay 'dcos' exists already, with 9.0.0.0/8")
    assert held(store) == ["dcos 9.0.0.0/24"]


def test_a_configured_agent_ip_is_used_as_it_stands(start: Start, store: Store, registry: Registry) -> None:
    start(configured=LOOPBACK).join()
    assert agent_ip(store) == LOOPBACK
    assert leases(registry) == [("127.0.0.1", "9.0.0.0/24")]


def test_an_agent_whose_address_changed_keeps_its_subnets(start: Start, store: Store, registry: Registry) -> None:
    start().join()
    create_network(store, 1)
    assert start(found=OTHER).join() == []
    assert (agent_ip(store), held(store)) == (OTHER, ["dcos 9.0.0.0/24"])
    assert leases(registry) == [(str(OTHER), "9.0.0.0/24")]


def test_a_registry_that_fails_while_the_address_changes_costs_no_subnet(store: Store, registry: Registry) -> None:
    """The former address is what shows that the subnets are this agent's: it is kept until all are confirmed."""
    Joining(store, registry, Identity(store, lambda: AGENT, None), DCOS, FakeClock()).join()
    failing = _FailingOnce(registry, "register")
    moved = Joining(store, failing, Identity(store, lambda: OTHER, None), DCOS, FakeClock())  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="busy"):
        moved.join()
    assert moved.join() == []
    assert (agent_ip(store), held(store)) == (OTHER, ["dcos 9.0.0.0/24"])
    assert leases(registry) == [(str(OTHER), "9.0.0.0/24")]


class _FailingOnce:
    """A registry of which one call fails, the first time."""

    def __init__(self, registry: Registry, method: str) -> None:
        self._registry = registry
        self._method = method

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name == self._method:
            self._method = ""
            raise StoreError("the registry is busy")
        answer: Callable[..., object] = getattr(self._registry, name)
        return answer


def test_a_host_without_network_keeps_the_address_it_was_known_by(
    start: Start, store: Store, registry: Registry
) -> None:
    start().join()
    start(found=LOOPBACK).join()
    assert agent_ip(store) == AGENT
    assert leases(registry) == [(str(AGENT), "9.0.0.0/24")]


def test_a_host_that_had_only_its_loopback_takes_a_better_address_while_it_runs(
    store: Store, registry: Registry
) -> None:
    found = [LOOPBACK]
    joining = Joining(store, registry, Identity(store, lambda: found[-1], None), DCOS, FakeClock())
    joining.join()
    assert agent_ip(store) == LOOPBACK
    found.append(AGENT)
    joining.join()
    assert agent_ip(store) == AGENT
    assert leases(registry) == [(str(AGENT), "9.0.0.0/24")]


def test_a_host_keeps_the_family_it_was_known_by_until_it_is_told_another(
    start: Start, store: Store, registry: Registry
) -> None:
    """Networks come up one family after the other: IPv6 alone may be there when dni starts."""
    start().join()
    start(found=SIX).join()
    assert agent_ip(store) == AGENT
    start(configured=SIX).join()
    assert agent_ip(store) == SIX
    assert leases(registry) == [(str(SIX), "9.0.0.0/24")]
    start(found=AGENT).join()
    assert agent_ip(store) == SIX


def test_a_host_refused_for_its_family_is_looked_at_again(store: Store, registry: Registry) -> None:
    registry.register(Host(agent_ip=OTHER, identity="other", boot="boot"))
    found: list[Address] = [SIX]
    joining = Joining(store, registry, Identity(store, lambda: found[-1], None), DCOS, FakeClock())
    with pytest.raises(Refused, match="named by IPv4 addresses"):
        joining.join()
    assert agent_ip(store) is None
    found.append(AGENT)
    assert joining.join() == []
    assert agent_ip(store) == AGENT


class _Gone:
    """A registry that cannot be had."""

    def __getattr__(self, _: str) -> Callable[..., object]:
        def refuse(*_: object) -> object:
            raise Unavailable("no registry")

        return refuse


def test_without_the_registry_nothing_in_the_store_changes(start: Start, store: Store) -> None:
    start().join()
    away = Joining(store, _Gone(), Identity(store, lambda: AGENT, None), DCOS, FakeClock())  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="no registry"):
        away.join()
    assert held(store) == ["dcos 9.0.0.0/24"]


class _Halting:
    """A registry after whose n-th answer the agent dies."""

    def __init__(self, registry: Registry, answers: int) -> None:
        self._registry = registry
        self._left = answers

    def __getattr__(self, name: str) -> Callable[..., object]:
        def answer(*values: object) -> object:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
            answered: object = getattr(self._registry, name)(*values)
            return answered

        return answer


@pytest.mark.parametrize("answers", range(9))
def test_an_agent_killed_at_any_call_to_the_registry_joins_whole_the_next_time(
    start: Start, store: Store, registry: Registry, answers: int
) -> None:
    dying = Joining(
        store,
        _Halting(registry, answers),  # type: ignore[arg-type]
        Identity(store, lambda: AGENT, None),
        DCOS,
        FakeClock(),
    )
    with suppress(KeyboardInterrupt):
        dying.join()
    assert start().join() == []
    assert held(store) == ["dcos 9.0.0.0/24"]
    assert registry.leases() == [
        Lease(agent_ip=AGENT, held=AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/24")))
    ]


def own_vtep(store: Store) -> str:
    with store.read() as tx:
        return str((vtep := peers.vtep(tx)) and vtep.ip)


def test_vteps_come_from_where_the_settings_say_and_from_a_wider_subnet_later(start: Start, store: Store) -> None:
    assert start(vtep_subnet=IPv4Network("10.96.0.0/16")).join() == []
    assert own_vtep(store) == "10.96.0.1/16"
    assert start(vtep_subnet=IPv4Network("10.96.0.0/12")).join() == []
    assert own_vtep(store) == "10.96.0.1/12"
    assert start().join() == [], "who says nothing takes what there is"
    assert own_vtep(store) == "10.96.0.1/12"


def test_another_subnet_of_vteps_is_told_and_hinders_nothing(start: Start, store: Store) -> None:
    start().join()
    joining = start(vtep_subnet=IPv4Network("10.96.0.0/16"))
    (problem,) = joining.join()
    assert problem.startswith("overlay.vtep_subnet: the VTEPs of this registry come from 44.128.0.0/20, and the")
    assert joining.is_settled
    assert own_vtep(store) == "44.128.0.1/20"
    assert held(store) == ["dcos 9.0.0.0/24"]
