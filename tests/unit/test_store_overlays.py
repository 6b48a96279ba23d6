# SPDX-License-Identifier: Apache-2.0
"""Overlays as this host knows them, its agent IP, and the agent subnets it holds."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.overlays import AgentSubnet, Overlay
from dni_driver.core.records import AddressState
from dni_driver.store import Store, addresses, leaving, overlays, pools
from tests import strategies
from tests.fakes import AGENT, DCOS, DUAL
from tests.scratch import fast_directory


@given(strategies.overlays())
def test_an_overlay_is_answered_as_it_was_recorded(overlay: Overlay) -> None:
    with fast_directory() as directory:
        store = Store(Path(directory) / "dni.db")
        with store.write() as tx:
            overlays.put(tx, overlay)
            assert overlays.find(tx, overlay.name) == overlay
        store.close()


def test_what_changed_about_an_overlay_is_recorded(store: Store) -> None:
    changed = msgspec.structs.replace(DCOS, backend="direct")
    with store.write() as tx:
        overlays.put(tx, changed)
        assert overlays.every(tx) == [changed, DUAL]


def test_an_unknown_overlay_is_not_found(store: Store) -> None:
    with store.read() as tx, pytest.raises(NotFound, match="there is no overlay 'dev': `dni overlay ls`"):
        overlays.find(tx, "dev")


def test_agent_subnets_are_answered_in_the_order_they_were_leased(store: Store) -> None:
    late = AgentSubnet(overlay="dcos", subnet=ip_network("9.0.7.0/24"))
    later = AgentSubnet(overlay="dcos", subnet=ip_network("9.0.3.0/24"))
    with store.write() as tx:
        for held in (late, later, late):
            overlays.add_agent_subnet(tx, held)
        subnets = [str(held.subnet) for held in overlays.agent_subnets(tx, "dcos")]
        assert subnets == ["9.0.0.0/24", "9.0.7.0/24", "9.0.3.0/24"]
        assert len(overlays.agent_subnets(tx)) == 5


def test_agent_subnets_of_both_families_are_kept_apart(store: Store) -> None:
    with store.read() as tx:
        assert [held.family for held in overlays.agent_subnets(tx, "dual")] == [4, 6]


def test_the_agent_ip_is_unknown_until_it_was_found(path: Path) -> None:
    store = Store(path)
    with store.write() as tx:
        assert overlays.agent_ip(tx) is None
        overlays.set_agent_ip(tx, AGENT)
        overlays.set_agent_ip(tx, IPv4Address("192.0.2.11"))
        assert overlays.agent_ip(tx) == IPv4Address("192.0.2.11")


def test_an_overlay_is_forgotten_with_its_pools_and_agent_subnets(store: Store) -> None:
    with store.write() as tx:
        pools.use_overlay(tx, "dual", 4, None, 0.0)
        span_start = ip_address("10.64.0.130")
        addresses.hold(tx, "dual/v4", span_start, AddressState.CLAIMED, 0.0)
        overlays.remove(tx, "dual")
    with store.read() as tx:
        assert overlays.every(tx) == [DCOS]
        assert [held.overlay for held in overlays.agent_subnets(tx)] == ["dcos"]
        assert (pools.every(tx), addresses.every(tx)) == ([], [])


def test_that_an_overlay_is_leaving_is_known_until_it_stays_or_is_gone(store: Store) -> None:
    with store.write() as tx:
        for name in ("dcos", "dual", "unknown"):
            leaving.mark(tx, name, AGENT)
        assert leaving.every(tx) == {"dcos": AGENT, "dual": AGENT}
        leaving.clear(tx, "dcos")
        leaving.check(tx, "dcos")
        with pytest.raises(InUse, match="'dual' is being removed"):
            leaving.check(tx, "dual")
        overlays.remove(tx, "dual")
        assert leaving.every(tx) == {}


def test_what_is_held_of_an_overlay_is_given_up_before_it_is_gone(store: Store) -> None:
    with store.write() as tx:
        pools.use_overlay(tx, "dual", 4, None, 0.0)
        assert overlays.has_any_of(tx, "dual")
        overlays.vacate(tx, "dual")
        assert not overlays.has_any_of(tx, "dual")
        assert overlays.every(tx) == [DCOS, DUAL]
