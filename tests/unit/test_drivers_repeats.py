# SPDX-License-Identifier: Apache-2.0
"""Calls of dockerd that come once more, or that something else comes between."""

from __future__ import annotations

import pytest

from dni_driver.core.errors import Exhausted, InUse, KernelError, NotMended
from dni_driver.core.records import AddressState
from dni_driver.plugin import wire
from dni_driver.store import addresses
from dni_driver.store.records import read_all
from tests.fakes import DCOS, lease
from tests.unit.plugin_and_agent import GATEWAY, NETWORK, PLAIN, WEB, Host, alone, create_alone, host, join, plain

__all__ = ["alone", "host"]


# -- ends of networks that dockerd repeats after its own end cut them short


def test_a_repeated_release_of_a_plain_pool_takes_no_address_from_a_container(host: Host) -> None:
    plain(host)
    mine = host.address(PLAIN)
    record = next(one for one in read_all(host.store).addresses if str(one.address) in mine.split("/"))
    with host.store.write() as tx:
        addresses.set_container(tx, PLAIN, record.address, "web")
    host.release(PLAIN)
    assert host.address(PLAIN) != mine


def test_a_repeated_release_of_a_plain_gateway_gives_it_to_no_container(host: Host) -> None:
    gateway = plain(host)
    host.ipam.release_address(wire.ReleaseAddressRequest(pool_id=PLAIN, address=gateway.partition("/")[0]))
    given = [host.address(PLAIN) for _ in range(5)]
    with pytest.raises(Exhausted, match="5 of 6 used, 1 reserved"):
        host.address(PLAIN)
    assert gateway not in given


def test_the_last_release_of_a_plain_pool_takes_all_of_it_away(host: Host) -> None:
    """An address that was claimed and never used, an auxiliary one for instance, does not keep it."""
    gateway = plain(host)
    host.address(PLAIN)
    host.release(PLAIN, gateway)
    assert [pool.id for pool in read_all(host.store).pools] == []


# -- calls that come once more, or that something else comes between


def test_a_network_that_cannot_be_made_once_more_is_still_the_one_it_was(host: Host) -> None:
    pool = host.pool()
    gateway = host.address(pool.pool_id, GATEWAY)
    host.create(pool, gateway)
    host.kernel.elsewhere = NotMended([("d-dcos", "nft said no")])
    with pytest.raises(KernelError):
        host.create(pool, gateway)
    assert [network.id for network in read_all(host.store).networks] == [NETWORK]


def test_a_network_without_ipam_that_is_created_once_more_uses_its_pool_once(alone: Host) -> None:
    create_alone(alone)
    assert [pool.uses for pool in read_all(alone.store).pools] == [1]


def test_a_plain_gateway_that_is_asked_for_once_more_is_the_same(host: Host) -> None:
    gateway = plain(host)
    assert host.address(PLAIN, GATEWAY) == gateway


def test_a_plain_gateway_is_nobody_elses_also_where_somebody_had_it_before(host: Host) -> None:
    plain(host)
    asked = wire.RequestAddressRequest(pool_id=PLAIN, address="172.30.0.2", options=GATEWAY)
    assert host.address(PLAIN) == "172.30.0.2/29"
    with pytest.raises(InUse, match=r"172\.30\.0\.2 is in use"):
        host.ipam.request_address(asked)
    host.ipam.release_address(wire.ReleaseAddressRequest(pool_id=PLAIN, address="172.30.0.2"))
    host.ipam.request_address(asked)
    assert "172.30.0.2/29" not in [host.address(PLAIN) for _ in range(4)]


def test_a_pool_that_is_released_before_its_network_goes_takes_no_address_from_a_start(host: Host) -> None:
    pool = host.pool()
    host.create(pool, host.address(pool.pool_id, GATEWAY))
    mine = host.address(pool.pool_id)
    host.release(pool.pool_id)
    held = [str(one.address) for one in read_all(host.store).addresses if one.state is AddressState.CLAIMED]
    assert held == [mine.partition("/")[0]]


def test_a_join_in_room_that_came_later_finds_its_gateway_on_the_bridge(host: Host) -> None:
    pool = host.pool()
    host.create(pool, host.address(pool.pool_id, GATEWAY))
    lease(host.store, DCOS, "9.0.7.0/24")
    for _ in range(125):
        host.address(pool.pool_id)
    interface = wire.EndpointInterface(address=host.address(pool.pool_id))
    assert interface.address == "9.0.7.130/25"
    host.network.create_endpoint(wire.CreateEndpointRequest(network_id=NETWORK, endpoint_id=WEB, interface=interface))
    join(host, WEB)
    assert "9.0.7.129/25" in [str(one) for one in host.kernel.bridges["d-dcos"].addresses]
