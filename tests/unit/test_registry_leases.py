# SPDX-License-Identifier: Apache-2.0
"""What every registry promises of agent subnets: each is one agent's, lowest first, and can be confirmed."""

from __future__ import annotations

import threading
import time
from ipaddress import IPv4Address, ip_network

import pytest

from dni_driver.core.errors import Exhausted, InUse, NotFound, Refused
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.registry import Lease, Registry
from tests.members import joined
from tests.unit.every_registry import ME, OTHER, OpenRegistry, again, alive, held, overlay, url

__all__ = ["again", "url"]


@pytest.fixture
def registry(again: OpenRegistry) -> Registry:
    return joined(again(), ME, OTHER)


def test_agent_subnets_are_given_lowest_first_with_none_left_out(registry: Registry) -> None:
    registry.define(overlay())
    assert registry.lease("dcos", 4, ME) == held("9.0.0.0/24")
    assert registry.lease("dcos", 4, OTHER) == held("9.0.1.0/24")
    assert registry.lease("dcos", 4, ME) == held("9.0.2.0/24")


def test_what_was_given_back_is_given_out_next(registry: Registry) -> None:
    registry.define(overlay())
    first = registry.lease("dcos", 4, ME)
    registry.lease("dcos", 4, OTHER)
    registry.give_back(first, ME)
    assert registry.lease("dcos", 4, OTHER) == first


def test_an_agent_gives_back_only_what_it_holds(registry: Registry) -> None:
    registry.define(overlay())
    mine = registry.lease("dcos", 4, ME)
    registry.give_back(mine, OTHER)
    registry.give_back(held("9.0.9.0/24"), ME)
    assert registry.leases() == [Lease(agent_ip=ME, held=mine)]


def test_leases_are_told_by_agent_and_survive_a_restart(again: OpenRegistry) -> None:
    registry = joined(again(), ME, OTHER)
    registry.define(overlay())
    registry.define(define("six", [ip_network("fd01:b::/64")]))
    mine = [registry.lease("dcos", 4, ME), registry.lease("six", 6, ME)]
    registry.lease("dcos", 4, OTHER)
    assert [lease.held for lease in again().leases(ME)] == mine
    assert [lease.agent_ip for lease in again().leases()] == [ME, ME, OTHER]
    assert mine[1] == held("fd01:b::/80", "six")


def test_the_families_of_one_overlay_do_not_get_in_each_others_way(registry: Registry) -> None:
    """The first IPv4 and the first IPv6 agent subnet begin with the same bits here."""
    registry.define(define("dual", [ip_network("10.0.0.0/16"), ip_network("::a00:0/104")], (24, 120)))
    registry.lease("dual", 4, ME)
    assert registry.lease("dual", 6, ME) == held("::a00:0/120", "dual")


def test_a_lease_is_refused_for_an_overlay_or_family_that_is_not_there(registry: Registry) -> None:
    registry.define(overlay())
    with pytest.raises(NotFound, match="no overlay 'dev'"):
        registry.lease("dev", 4, ME)
    with pytest.raises(Refused, match="'dcos' has no IPv6 subnet"):
        registry.lease("dcos", 6, ME)
    assert registry.leases() == []


def test_who_is_no_agent_gets_nothing_and_uses_nothing(registry: Registry) -> None:
    """It would hold it for ever: nobody could forget it, or take it for dead."""
    registry.define(overlay())
    nobody = IPv4Address("192.0.2.77")
    with pytest.raises(NotFound, match=r"there is no agent 192\.0\.2\.77 in the registry"):
        registry.lease("dcos", 4, nobody)
    with pytest.raises(NotFound, match=r"there is no agent 192\.0\.2\.77 in the registry"):
        registry.use(nobody, ["dcos"])
    assert registry.leases() == []
    registry.begin_removal("dcos", ME)
    assert nobody not in {member.agent_ip for member in registry.members()}


def test_a_full_overlay_says_so(registry: Registry) -> None:
    registry.define(overlay(subnet="9.0.0.0/23"))
    registry.lease("dcos", 4, ME)
    registry.lease("dcos", 4, ME)
    with pytest.raises(Exhausted, match=r"all 2 agent subnets of /24 in 9\.0\.0\.0/23 are held"):
        registry.lease("dcos", 4, OTHER)


def test_a_lease_the_registry_lost_is_confirmed_from_the_store(registry: Registry) -> None:
    registry.define(overlay())
    registry.confirm(held("9.0.5.0/24"), ME)
    registry.confirm(held("9.0.5.0/24"), ME)
    assert registry.leases() == [Lease(agent_ip=ME, held=held("9.0.5.0/24"))]


def test_another_agents_lease_cannot_be_confirmed(registry: Registry) -> None:
    registry.define(overlay())
    theirs = registry.lease("dcos", 4, OTHER)
    with pytest.raises(InUse, match=r"9\.0\.0\.0/24 of overlay 'dcos' is held by agent 192\.0\.2\.2"):
        registry.confirm(theirs, ME)


def test_an_agent_whose_address_changed_takes_its_leases_along(again: OpenRegistry) -> None:
    registry, formerly = joined(again(), OTHER), joined(again(), ME)
    registry.define(overlay())
    mine = formerly.lease("dcos", 4, ME)
    formerly.close()
    while alive(registry)[str(ME)]:
        time.sleep(0.1)
    registry.confirm(mine, OTHER, formerly=ME)
    assert registry.leases() == [Lease(agent_ip=OTHER, held=mine)]


@pytest.mark.parametrize("subnet", ["9.0.0.0/25", "10.0.0.0/24", "fd01::/80"])
def test_only_agent_subnets_of_the_overlay_can_be_confirmed(registry: Registry, subnet: str) -> None:
    registry.define(overlay())
    with pytest.raises(Refused, match="is no agent subnet of overlay 'dcos'"):
        registry.confirm(held(subnet), ME)
    with pytest.raises(NotFound):
        registry.confirm(held("9.0.0.0/24", "dev"), ME)


def test_agents_that_lease_at_the_same_time_never_get_the_same(again: OpenRegistry) -> None:
    again().define(overlay())
    got: list[AgentSubnet] = []

    def lease(number: int) -> None:
        agent = IPv4Address("192.0.2.1") + number
        registry = joined(again(), agent)
        got.extend(registry.lease("dcos", 4, agent) for _ in range(5))

    threads = [threading.Thread(target=lease, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=lambda one: int(one.subnet.network_address)) == [
        held(f"9.0.{number}.0/24") for number in range(40)
    ]
