# SPDX-License-Identifier: Apache-2.0
"""Nothing is begun on an overlay that is being removed in the whole cluster."""

from __future__ import annotations

import pytest

from dni_driver.core.errors import InUse
from dni_driver.plugin import wire
from dni_driver.store import leaving
from dni_driver.store.records import read_all
from tests.unit.plugin_and_agent import (
    GATEWAY,
    NETWORK,
    OTHER,
    WEB,
    Host,
    alone,
    create_alone,
    endpoints_of,
    host,
    run,
)

__all__ = ["alone", "host"]


def leave(host: Host, overlay: str) -> None:
    """Have the agent hear of that."""
    with host.store.write() as tx:
        leaving.mark(tx, overlay, OTHER)


BEING_REMOVED = r"'dcos' is being removed, as agent 192\.0\.2\.20 was told to: .*dni overlay keep dcos"


def test_no_network_is_begun_on_an_overlay_that_is_leaving(host: Host) -> None:
    leave(host, "dcos")
    with pytest.raises(InUse, match=BEING_REMOVED):
        host.pool()
    with pytest.raises(InUse, match=BEING_REMOVED):
        create_alone(host)
    assert read_all(host.store).pools == []


def test_a_network_that_was_half_made_when_its_overlay_began_to_leave_goes_no_further(host: Host) -> None:
    pool = host.pool()
    gateway = host.address(pool.pool_id, GATEWAY)
    leave(host, "dcos")
    with pytest.raises(InUse, match=BEING_REMOVED):
        host.address(pool.pool_id, GATEWAY)
    with pytest.raises(InUse, match=BEING_REMOVED):
        host.create(pool, gateway)
    assert read_all(host.store).networks == []


def test_no_container_is_started_on_an_overlay_that_is_leaving(host: Host) -> None:
    pool = host.pool()
    host.create(pool, host.address(pool.pool_id, GATEWAY))
    interface = wire.EndpointInterface(address=host.address(pool.pool_id))
    leave(host, "dcos")
    with pytest.raises(InUse, match=BEING_REMOVED):
        host.address(pool.pool_id)
    with pytest.raises(InUse, match=BEING_REMOVED):
        host.network.create_endpoint(
            wire.CreateEndpointRequest(network_id=NETWORK, endpoint_id=WEB, interface=interface)
        )
    with host.store.write() as tx:
        leaving.clear(tx, "dcos")
    host.network.create_endpoint(wire.CreateEndpointRequest(network_id=NETWORK, endpoint_id=WEB, interface=interface))
    assert endpoints_of(host) == [WEB]


def test_no_container_is_started_either_where_dockerd_asks_nobody_for_addresses(alone: Host) -> None:
    leave(alone, "dcos")
    with pytest.raises(InUse, match=BEING_REMOVED):
        run(alone, "c" * 64, "9.0.0.141")
    assert endpoints_of(alone) == [WEB]
