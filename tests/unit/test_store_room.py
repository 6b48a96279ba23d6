# SPDX-License-Identifier: Apache-2.0
"""Agent subnets on their way out, as the store has them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from dni_driver.core.addresses.room import Leaving
from dni_driver.core.overlays import AgentSubnet
from dni_driver.core.records import AddressState
from dni_driver.store import Store, addresses, overlays, pools, room
from tests.fakes import AGENT


def test_an_agent_subnet_that_is_given_back_takes_along_what_was_known_of_its_addresses(store: Store) -> None:
    held = AgentSubnet(overlay="dcos", subnet=ip_network("9.0.7.0/24"))
    with store.write() as tx:
        overlays.add_agent_subnet(tx, held)
        pools.use_overlay(tx, "dcos", 4, None, 1.0)
        pools.use_mesos(tx, "dcos", 4, 1.0)
        for pool, gone, stays in (
            ("dcos/v4", "9.0.7.130", "9.0.0.130"),
            ("dcos/mesos4", "9.0.7.2", "9.0.0.2"),
        ):
            for address in map(ip_address, (gone, stays)):
                addresses.hold(tx, pool, address, AddressState.CLAIMED, 1.0)
                addresses.free(tx, pool, address, 2.0)
        room.begin_leaving(tx, Leaving(held=held, agent_ip=AGENT))
        room.forget(tx, held)
        assert [str(one.address) for one in addresses.every(tx)] == ["9.0.0.2", "9.0.0.130"]
        assert held not in overlays.agent_subnets(tx)
        assert room.leaving(tx) == []
