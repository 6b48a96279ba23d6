# SPDX-License-Identifier: Apache-2.0
"""The IPv4 subnets that IPv6-only overlays have on this host alone."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.errors import Exhausted, InUse
from dni_driver.core.local_subnets import PREFIX, SPACE, LocalSubnet, free_subnets
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import Network, define
from dni_driver.core.records import AddressState, NetworkRecord
from dni_driver.plugin.local_subnets import keep_local_subnet
from dni_driver.store import Store, Transaction, addresses, local_subnets, networks, overlays, pools
from tests import strategies
from tests.fakes import SIX, FakeKernel, lease

FIRST, SECOND, THIRD = (IPv4Network(f"198.18.{third}.0/20") for third in (0, 16, 32))
OTHER = define("other", [ip_network("fd07::/64")])


@pytest.fixture
def six(store: Store) -> Store:
    """Answer a store with two IPv6-only overlays."""
    lease(store, SIX, "fd06::/80")
    lease(store, OTHER, "fd07::/80")
    return store


def kept(store: Store, kernel: FakeKernel | None = None, overlay: str = "six") -> IPv4Network:
    keep_local_subnet(store, kernel or FakeKernel(), overlay)
    with store.read() as tx:
        (local,) = local_subnets.every(tx, overlay)
    return local.subnet


@given(st.lists(strategies.subnets(4, shortest=14, longest=22) | strategies.subnets(6), max_size=5))
def test_a_free_subnet_shares_no_address_with_what_is_taken(taken: list[Network]) -> None:
    for subnet in free_subnets(taken):
        assert subnet.prefixlen == PREFIX
        assert subnet.subnet_of(SPACE)
        assert not any(other.version == 4 and subnet.overlaps(other) for other in taken)


def test_the_lowest_is_taken_and_stays(six: Store) -> None:
    assert kept(six) == kept(six) == FIRST
    assert kept(six, overlay="other") == SECOND


def _overlay(tx: Transaction) -> None:
    overlays.put(tx, define("wide", [ip_network("198.18.0.0/20")]))


def _plain_pool(tx: Transaction) -> None:
    pools.use_plain(tx, ip_network("198.18.1.0/24"), None, 0.0)


def _other_local(tx: Transaction) -> None:
    local_subnets.put(tx, LocalSubnet(overlay="other", subnet=FIRST))


@pytest.mark.parametrize("take", [_overlay, _plain_pool, _other_local])
def test_what_something_else_has_is_passed_over(six: Store, take: Callable[[Transaction], None]) -> None:
    with six.write() as tx:
        take(tx)
    assert kept(six) == SECOND


def test_where_this_host_has_a_route_is_passed_over(six: Store) -> None:
    kernel = FakeKernel()
    kernel.foreign = {"eth0": ip_network("198.18.0.0/19")}
    assert kept(six, kernel) == THIRD


def test_it_moves_where_a_route_has_come_meanwhile_unless_it_is_used(six: Store) -> None:
    kernel = FakeKernel()
    assert kept(six, kernel) == FIRST
    kernel.foreign = {"eth0": ip_network("198.18.0.0/24")}
    assert kept(six, kernel) == SECOND
    with six.write() as tx:
        pools.use_overlay(tx, "six", 4, None, 0.0)
    kernel.foreign = {"eth0": ip_network("198.18.16.0/24")}
    assert kept(six, kernel) == SECOND


def test_what_somebody_takes_while_the_routes_are_looked_at_is_passed_over(six: Store) -> None:
    class Slow(FakeKernel):
        def leads_into(self, network: Network) -> bool:
            if network == FIRST:
                with six.write() as tx:
                    _plain_pool(tx)
            return super().leads_into(network)

    assert kept(six, Slow()) == SECOND


def test_with_no_room_at_all_it_is_said_how_to_do_without(six: Store) -> None:
    kernel = FakeKernel()
    kernel.foreign = {"eth0": ip_network("198.16.0.0/14")}
    with pytest.raises(Exhausted, match=r"'six' is IPv6 only.*no /20 of 198\.18\.0\.0/15 left.*--ipv4=false"):
        keep_local_subnet(six, kernel, "six")
    with six.read() as tx:
        assert local_subnets.every(tx) == []


def _network(tx: Transaction) -> None:
    gateways = IPv4Interface("198.18.0.1/20"), IPv6Interface("fd06::8000:0:1/81")
    networks.add(
        tx,
        NetworkRecord(
            id="n6", overlay="six", options=NetworkOptions(), mtu=1400, gateway=gateways[0], gateway6=gateways[1]
        ),
    )


def _creation(tx: Transaction) -> None:
    pools.use_overlay(tx, "six", 4, None, 0.0)


def _address(tx: Transaction) -> None:
    pools.use_overlay(tx, "six", 4, None, 0.0)
    pools.set_uses(tx, "six/v4", 0)
    addresses.hold(tx, "six/v4", ip_address("198.18.0.2"), AddressState.CLAIMED, 0.0)


@pytest.mark.parametrize("use", [_network, _creation, _address])
def test_one_that_is_used_gives_way_to_nobody(six: Store, use: Callable[[Transaction], None]) -> None:
    kept(six)
    with six.write() as tx:
        use(tx)
    with (
        six.write() as tx,
        pytest.raises(InUse, match=r"overlaps 198\.18\.0\.0/20, which overlay 'six' has for IPv4"),
    ):
        pools.use_plain(tx, ip_network("198.18.4.0/24"), None, 0.0)
    with six.read() as tx, pytest.raises(InUse, match="remove the Docker network of that overlay first"):
        pools.check_apart(tx, define("wide", [ip_network("198.18.0.0/16")]))


def test_one_that_is_not_used_gives_way(six: Store) -> None:
    kept(six)
    with six.write() as tx:
        pools.check_apart(tx, define("wide", [ip_network("198.18.0.0/16")]))
        pools.use_plain(tx, ip_network("198.18.4.0/24"), None, 0.0)
        assert local_subnets.every(tx) == []


def test_it_goes_with_its_overlay(six: Store) -> None:
    kept(six)
    with six.write() as tx:
        overlays.remove(tx, "six")
        assert local_subnets.every(tx) == []
