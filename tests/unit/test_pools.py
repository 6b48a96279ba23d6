# SPDX-License-Identifier: Apache-2.0
"""Pools that dockerd asked for, counted by use."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.overlays import define
from dni_driver.core.records import CREATION_SECONDS, AddressState, PoolRecord
from dni_driver.store import Store, Transaction, addresses, pools

NOW = 1_700_000_000.0
SUBNET = ip_network("172.30.0.0/24")
LOW, HIGH = ip_network("9.0.0.128/26"), ip_network("9.0.0.192/26")


@pytest.fixture
def tx(store: Store) -> Iterator[Transaction]:
    """Answer a transaction."""
    with store.write() as tx:
        yield tx


def test_an_overlays_pool_is_one_and_its_uses_are_counted(tx: Transaction) -> None:
    first = pools.use_overlay(tx, "dcos", 4, None, NOW)
    second = pools.use_overlay(tx, "dcos", 4, None, NOW + 1)
    assert first == PoolRecord(id="dcos/v4", family=4, overlay="dcos", uses=1, since=NOW)
    assert second == PoolRecord(id="dcos/v4", family=4, overlay="dcos", uses=2, since=NOW + 1)
    assert pools.every(tx) == [second]


def test_each_family_of_an_overlay_has_a_pool(tx: Transaction) -> None:
    pools.use_overlay(tx, "dual", 4, None, NOW)
    pools.use_overlay(tx, "dual", 6, None, NOW)
    assert [(pool.id, pool.family) for pool in pools.every(tx)] == [("dual/v4", 4), ("dual/v6", 6)]


def test_a_plain_pool_is_one_and_its_uses_are_counted(tx: Transaction) -> None:
    pools.use_plain(tx, SUBNET, None, NOW)
    pool = pools.use_plain(tx, SUBNET, None, NOW)
    assert (pool.id, pool.subnet, pool.overlay, pool.uses) == ("plain/172.30.0.0/24", SUBNET, None, 2)


def test_plain_pools_share_no_addresses(tx: Transaction) -> None:
    pools.use_plain(tx, SUBNET, None, NOW)
    with pytest.raises(InUse, match=r"overlaps plain pool 172\.30\.0\.0/24: choose another subnet"):
        pools.use_plain(tx, ip_network("172.30.0.0/16"), None, NOW)
    pools.use_plain(tx, ip_network("172.31.0.0/24"), None, NOW)
    pools.use_plain(tx, ip_network("fd77::/64"), None, NOW)


def test_plain_pools_and_overlays_share_no_addresses(tx: Transaction) -> None:
    with pytest.raises(InUse, match=r"subnet 9\.1\.0\.0/16 overlaps overlay 'dcos'"):
        pools.use_plain(tx, ip_network("9.1.0.0/16"), None, NOW)
    pools.use_plain(tx, SUBNET, None, NOW)
    with pytest.raises(
        InUse, match=r"subnet 172\.16\.0\.0/12 of overlay 'wide' overlaps plain pool 172\.30\.0\.0/24"
    ):
        pools.check_apart(tx, define("wide", [ip_network("172.16.0.0/12")]))
    pools.check_apart(tx, define("apart", [ip_network("172.29.0.0/16"), ip_network("fd01:c::/64")]))


def test_a_second_network_in_the_making_has_the_same_range_or_none_gets_it(tx: Transaction) -> None:
    pools.use_overlay(tx, "dcos", 4, LOW, NOW)
    pools.use_overlay(tx, "dcos", 4, LOW, NOW)
    with pytest.raises(InUse, match=r"with --ip-range 9\.0\.0\.128/26, not 9\.0\.0\.192/26"):
        pools.use_overlay(tx, "dcos", 4, HIGH, NOW)
    with pytest.raises(InUse, match=r"with --ip-range 9\.0\.0\.128/26, not unset"):
        pools.use_overlay(tx, "dcos", 4, None, NOW)


def test_a_creation_that_was_cut_off_long_ago_holds_nobody_up(tx: Transaction) -> None:
    pools.use_overlay(tx, "dcos", 4, LOW, NOW)
    later = NOW + CREATION_SECONDS
    assert pools.use_overlay(tx, "dcos", 4, HIGH, later).ip_range == HIGH


def test_a_clock_that_was_set_back_holds_nobody_up(tx: Transaction) -> None:
    pools.use_overlay(tx, "dcos", 4, LOW, NOW)
    assert pools.use_overlay(tx, "dcos", 4, HIGH, NOW - CREATION_SECONDS).ip_range == HIGH


def test_a_plain_pool_keeps_its_range_while_it_is_used(tx: Transaction) -> None:
    half, other = ip_network("172.30.0.0/25"), ip_network("172.30.0.128/25")
    pools.use_plain(tx, SUBNET, half, NOW)
    with pytest.raises(InUse, match="remove that network first, or use the same range"):
        pools.use_plain(tx, SUBNET, other, NOW + CREATION_SECONDS)
    pools.drop_use(tx, "plain/172.30.0.0/24")
    assert pools.use_plain(tx, SUBNET, other, NOW).ip_range == other


def test_uses_are_dropped_one_by_one_and_never_below_none(tx: Transaction) -> None:
    pools.use_overlay(tx, "dcos", 4, None, NOW)
    pools.use_overlay(tx, "dcos", 4, None, NOW)
    assert [pools.drop_use(tx, "dcos/v4") for _ in range(3)] == [1, 0, 0]
    assert pools.drop_use(tx, "unknown") == 0


def test_all_uses_of_an_overlay_end_with_its_network(tx: Transaction) -> None:
    for family in (4, 6):
        pools.use_overlay(tx, "dual", 6 if family == 6 else 4, None, NOW)
    pools.use_overlay(tx, "dcos", 4, None, NOW)
    pools.clear_uses(tx, "dual")
    assert {pool.id: pool.uses for pool in pools.every(tx)} == {"dcos/v4": 1, "dual/v4": 0, "dual/v6": 0}


def test_a_plain_pool_is_forgotten_with_all_it_handed_out(tx: Transaction) -> None:
    pool = pools.use_plain(tx, SUBNET, None, NOW).id
    addresses.hold(tx, pool, ip_address("172.30.0.1"), AddressState.RESERVED, NOW)
    pools.forget_plain(tx, pool)
    assert pools.every(tx) == []
    assert addresses.every(tx) == []


def test_an_unknown_pool_is_not_found(tx: Transaction) -> None:
    with pytest.raises(NotFound, match="pool 'dcos/v4' is not recorded by dni: remove its network"):
        pools.find(tx, "dcos/v4")
