# SPDX-License-Identifier: Apache-2.0
"""What every registry promises. Another implementation joins by one more entry in REGISTRIES."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from dni_driver.core.errors import Exhausted, InUse, NotFound, Refused
from dni_driver.core.overlays import AgentSubnet, Overlay, define
from dni_driver.registry import Lease, Registry, open_registry

OpenRegistry = Callable[[], Registry]
"""Opens one and the same registry each time, as another agent or a later start would."""


def _local(directory: Path) -> Registry:
    return open_registry("local", directory)


REGISTRIES: dict[str, Callable[[Path], Registry]] = {"local": _local}

ME = IPv4Address("192.0.2.1")
OTHER = IPv4Address("192.0.2.2")


@pytest.fixture(params=REGISTRIES)
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenRegistry]:
    opened: list[Registry] = []

    def open_once_more() -> Registry:
        opened.append(REGISTRIES[request.param](tmp_path))
        return opened[-1]

    yield open_once_more
    for registry in opened:
        registry.close()


@pytest.fixture
def registry(again: OpenRegistry) -> Registry:
    return again()


def overlay(name: str = "dcos", subnet: str = "9.0.0.0/8", prefix: int | None = None) -> Overlay:
    return define(name, [ip_network(subnet)], (prefix, prefix))


def held(subnet: str, name: str = "dcos") -> AgentSubnet:
    return AgentSubnet(overlay=name, subnet=ip_network(subnet))


def test_a_new_registry_holds_nothing(registry: Registry) -> None:
    assert registry.overlays() == []
    assert registry.leases() == []


def test_a_defined_overlay_is_there_for_every_agent_and_after_a_restart(again: OpenRegistry) -> None:
    dual = define("dual", [ip_network("10.1.0.0/16"), ip_network("fd01:b::/64")], (None, None), "auto")
    again().define(dual)
    again().define(overlay())
    assert again().overlays() == [overlay(), dual]


def test_defining_the_same_overlay_again_is_no_error(registry: Registry) -> None:
    registry.define(overlay())
    registry.define(overlay())
    assert registry.overlays() == [overlay()]


def test_a_missing_prefix_means_the_default_one(registry: Registry) -> None:
    registry.define(overlay(prefix=24))
    registry.define(Overlay(name="dcos", subnet=overlay().subnet))
    assert registry.overlays() == [overlay()]


@pytest.mark.parametrize(
    "other",
    [
        overlay(subnet="10.0.0.0/8"),
        overlay(prefix=25),
        define("dcos", [ip_network("9.0.0.0/8")], (None, None), "direct"),
        define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")]),
    ],
)
def test_a_name_cannot_stand_for_two_overlays(registry: Registry, other: Overlay) -> None:
    registry.define(overlay())
    with pytest.raises(InUse, match=r"'dcos' exists already, with 9\.0\.0\.0/8 in agent subnets of /24"):
        registry.define(other)
    assert registry.overlays() == [overlay()]


def test_overlays_that_share_addresses_are_refused_naming_the_other(registry: Registry) -> None:
    registry.define(overlay())
    with pytest.raises(InUse, match=r"'dev' overlaps 9\.0\.0\.0/8 of overlay 'dcos'"):
        registry.define(overlay("dev", "9.7.0.0/16"))


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
    registry = again()
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


def test_a_full_overlay_says_so(registry: Registry) -> None:
    registry.define(overlay(subnet="9.0.0.0/23"))
    registry.lease("dcos", 4, ME)
    registry.lease("dcos", 4, ME)
    with pytest.raises(Exhausted, match=r"all 2 agent subnets of /24 in 9\.0\.0\.0/23 are held"):
        registry.lease("dcos", 4, OTHER)


def test_a_removed_overlay_takes_its_leases_along(registry: Registry) -> None:
    registry.define(overlay())
    registry.lease("dcos", 4, ME)
    registry.remove("dcos")
    assert registry.overlays() == []
    assert registry.leases() == []
    with pytest.raises(NotFound):
        registry.remove("dcos")


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


def test_an_agent_whose_address_changed_takes_its_leases_along(registry: Registry) -> None:
    registry.define(overlay())
    mine = registry.lease("dcos", 4, ME)
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
        registry = again()
        got.extend(registry.lease("dcos", 4, IPv4Address("192.0.2.0") + number) for _ in range(5))

    threads = [threading.Thread(target=lease, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=lambda one: int(one.subnet.network_address)) == [
        held(f"9.0.{number}.0/24") for number in range(40)
    ]


DUAL = define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")])


def test_an_overlay_is_given_the_family_it_lacks_and_keeps_its_leases(registry: Registry) -> None:
    registry.define(overlay())
    mine = registry.lease("dcos", 4, ME)
    for _ in range(2):
        registry.widen(DUAL)
        assert registry.overlays() == [DUAL]
    assert registry.leases() == [Lease(agent_ip=ME, held=mine)]
    assert registry.lease("dcos", 6, ME) == held("fd01:b::/80")


@pytest.mark.parametrize(
    "other",
    [
        define("dcos", [ip_network("10.0.0.0/8"), ip_network("fd01:b::/64")]),
        define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")], (25, None)),
        define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")], (None, None), "direct"),
        define("dcos", [ip_network("fd01:b::/64")]),
    ],
)
def test_nothing_else_about_it_can_change(registry: Registry, other: Overlay) -> None:
    registry.define(overlay())
    with pytest.raises(InUse, match="'dcos' exists already"):
        registry.widen(other)
    assert registry.overlays() == [overlay()]


def test_what_it_is_given_must_be_nobody_elses(registry: Registry) -> None:
    registry.define(overlay())
    registry.define(define("six", [ip_network("fd01::/16")]))
    with pytest.raises(InUse, match="overlaps fd01::/16 of overlay 'six'"):
        registry.widen(DUAL)
    with pytest.raises(NotFound, match="no overlay 'dev'"):
        registry.widen(define("dev", [ip_network("10.0.0.0/8")]))
