# SPDX-License-Identifier: Apache-2.0
"""What every registry promises of an overlay that is leaving: it goes once nobody holds or uses any of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Address, ip_network

import pytest

from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.registry import Lease, Registry
from tests.members import joined
from tests.removing import remove
from tests.unit.every_registry import ME, OTHER, OpenRegistry, again, held, host, overlay, registry, url

__all__ = ["again", "registry", "url"]


def test_a_removed_overlay_takes_its_leases_along(registry: Registry) -> None:
    registry.define(overlay())
    registry.register(host())
    registry.lease("dcos", 4, ME)
    remove(registry, "dcos")
    assert registry.overlays() == []
    assert registry.leases() == []
    with pytest.raises(NotFound):
        remove(registry, "dcos")


def test_an_overlay_stays_as_long_as_any_agent_uses_it(again: OpenRegistry) -> None:
    one, two = again(), again()
    one.define(overlay())
    one.define(overlay("dev", "10.0.0.0/16"))
    joined(one, ME).use(ME, ["dcos", "dev", "unknown"])
    joined(two, OTHER).use(OTHER, ["dcos"])
    with pytest.raises(InUse, match=r"'dcos' is in use on 192\.0\.2\.1, 192\.0\.2\.2: .*`dni agent forget IP`"):
        remove(two, "dcos")
    one.use(ME, [])
    remove(two, "dev")
    with pytest.raises(InUse, match=r"is in use on 192\.0\.2\.2:"):
        remove(one, "dcos")
    two.use(OTHER, [])
    remove(two, "dcos")
    assert one.overlays() == []


def test_an_overlay_stays_as_long_as_a_host_that_is_not_heard_of_may_use_it(again: OpenRegistry) -> None:
    one, two, three = again(), again(), again()
    one.define(overlay())
    one.define(overlay("dev", "10.0.0.0/16"))
    one.register(host())
    two.register(host(OTHER, "two"))
    three.register(host(IPv4Address("192.0.2.3"), "three"))
    for agent in (ME, OTHER):
        one.lease("dcos", 4, agent)
    two.close()
    three.close()
    while len(one.alive()) > 1:
        time.sleep(0.05)
    with pytest.raises(InUse, match=r"'dcos' may be in use on 192\.0\.2\.2, from where .*`dni agent forget IP`"):
        remove(one, "dcos")
    assert len(one.leases()) == 2
    remove(one, "dev")
    one.forget(OTHER)
    remove(one, "dcos")
    assert one.overlays() == []


def test_what_was_held_of_a_removed_overlay_is_not_held_of_a_new_one_of_its_name(registry: Registry) -> None:
    registry.define(overlay())
    registry.register(host())
    registry.register(host(OTHER, "two"))
    registry.lease("dcos", 4, ME)
    registry.lease("dcos", 4, OTHER)
    remove(registry, "dcos")
    registry.define(overlay())
    assert registry.leases() == []
    assert registry.lease("dcos", 4, OTHER) == held("9.0.0.0/24")


def leaving(again: OpenRegistry) -> tuple[Registry, Registry, AgentSubnet]:
    """Answer two agents, and what the second holds of an overlay that the first was told to remove."""
    one, two = again(), again()
    one.define(overlay())
    one.register(host())
    two.register(host(OTHER, "two"))
    theirs = two.lease("dcos", 4, OTHER)
    one.begin_removal("dcos", ME)
    return one, two, theirs


def test_of_an_overlay_that_is_leaving_nobody_gets_any_and_nothing_about_it_changes(again: OpenRegistry) -> None:
    one, two, theirs = leaving(again)
    two.begin_removal("dcos", OTHER)
    assert two.leaving() == one.leaving() == {"dcos": ME}
    attempts: list[Callable[[], object]] = [
        lambda: two.lease("dcos", 4, OTHER),
        lambda: two.confirm(held("9.0.9.0/24"), OTHER),
        lambda: two.define(overlay()),
        lambda: two.widen(define("dcos", [ip_network("9.0.0.0/8"), ip_network("fd01:b::/64")])),
        lambda: two.set_backend("dcos", "direct"),
    ]
    for attempt in attempts:
        with pytest.raises(
            InUse, match=r"'dcos' is being removed, as agent 192\.0\.2\.1 was told to: .*overlay keep"
        ):
            attempt()
    with pytest.raises(InUse, match=r"overlaps 9\.0\.0\.0/8 of overlay 'dcos'"):
        two.define(overlay("dev", "9.7.0.0/16"))
    two.confirm(theirs, OTHER)
    assert (one.leases(), one.overlays()) == ([Lease(agent_ip=OTHER, held=theirs)], [overlay()])


def test_it_is_gone_once_nobody_holds_any_of_it(again: OpenRegistry) -> None:
    one, two, theirs = leaving(again)
    assert not one.end_removal("dcos")
    two.give_back(theirs, OTHER)
    assert one.end_removal("dcos")
    assert two.end_removal("dcos")
    assert (one.overlays(), one.leaving()) == ([], {})
    two.define(overlay("dev", "9.7.0.0/16"))


def test_it_waits_for_a_holder_that_is_cut_off_until_that_is_forgotten(again: OpenRegistry) -> None:
    one, two, _ = leaving(again)
    two.close()
    while len(one.alive()) > 1:
        time.sleep(0.05)
    one.begin_removal("dcos", ME)
    assert not one.end_removal("dcos")
    one.forget(OTHER)
    assert one.end_removal("dcos")


def test_an_agent_that_uses_it_keeps_it_and_is_named(again: OpenRegistry) -> None:
    one, two, _ = leaving(again)
    for _ in range(2):
        two.keep("dcos", OTHER)
    assert one.leaving() == {}
    attempts: list[Callable[[], object]] = [
        lambda: one.end_removal("dcos"),
        lambda: one.begin_removal("dcos", ME),
    ]
    for attempt in attempts:
        with pytest.raises(InUse, match=r"'dcos' is in use on 192\.0\.2\.2: "):
            attempt()
    two.lease("dcos", 4, OTHER)
    two.use(OTHER, [])
    one.begin_removal("dcos", ME)


def test_its_removal_can_be_called_off(again: OpenRegistry) -> None:
    one, two, _ = leaving(again)
    two.keep("dcos")
    with pytest.raises(InUse, match="'dcos' stays: its removal was called off meanwhile"):
        one.end_removal("dcos")
    assert two.lease("dcos", 4, OTHER) == held("9.0.1.0/24")
    attempts: list[Callable[[], object]] = [lambda: one.keep("dev"), lambda: one.begin_removal("dev", ME)]
    for attempt in attempts:
        with pytest.raises(NotFound, match="no overlay 'dev'"):
            attempt()
