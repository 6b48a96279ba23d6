# SPDX-License-Identifier: Apache-2.0
"""Forgetting what Docker no longer has, and reading the store as a whole."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_address

import pytest

from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import Family, family_of
from dni_driver.core.records import AddressState, EndpointRecord, NetworkRecord, pool_id
from dni_driver.store import Store, Transaction, addresses, endpoints, networks, overlays, pools
from dni_driver.store.forget import forget_endpoint, forget_network
from dni_driver.store.records import read_all

NOW = 1_700_000_000.0
NETWORK, OTHER = "a" * 64, "b" * 64


def furnish(tx: Transaction) -> None:
    """Put on `dual` a network with two endpoints, a claim and a reservation; on `dcos` one with one endpoint."""
    put_network(tx, NETWORK, "dual", (4, 6))
    put_network(tx, OTHER, "dcos", (4,))
    put_endpoint(tx, "e1", NETWORK, "10.64.0.130/25", "fd01:b::8000:0:2/81")
    put_endpoint(tx, "e2", NETWORK, "10.64.0.131/25")
    put_endpoint(tx, "e3", OTHER, "9.0.0.130/25")
    addresses.hold(tx, "dual/v4", ip_address("10.64.0.140"), AddressState.CLAIMED, NOW)
    addresses.hold(tx, "dual/v4", ip_address("10.64.0.200"), AddressState.CLAIMED, NOW)
    addresses.reserve(tx, "dual/v4", ip_address("10.64.0.200"), NETWORK, NOW)


def put_network(tx: Transaction, network: str, overlay: str, families: tuple[Family, ...]) -> None:
    networks.add(tx, NetworkRecord(id=network, overlay=overlay, options=NetworkOptions(), mtu=1450))
    for family in families:
        pools.use_overlay(tx, overlay, family, None, NOW)


def put_endpoint(tx: Transaction, name: str, network: str, four: str, six: str | None = None) -> None:
    endpoint = EndpointRecord(
        id=name,
        network=network,
        mac="02:42:00:00:00:01",
        address=IPv4Interface(four),
        address6=IPv6Interface(six) if six else None,
    )
    endpoints.add(tx, endpoint)
    for interface in endpoint.interfaces():
        pool = pool_id(networks.find(tx, network).overlay, family_of(interface.ip))
        addresses.hold(tx, pool, interface.ip, AddressState.CLAIMED, NOW)
        addresses.bind(tx, pool, interface.ip, endpoint, NOW)


@pytest.fixture
def furnished(store: Store) -> Store:
    """Answer a store with networks and endpoints."""
    with store.write() as tx:
        furnish(tx)
    return store


def states(tx: Transaction) -> dict[str, str]:
    return {str(record.address): str(record.state) for record in addresses.every(tx)}


def test_a_forgotten_endpoint_gives_up_its_addresses_of_both_families(furnished: Store) -> None:
    with furnished.write() as tx:
        forget_endpoint(tx, "e1", NOW)
        assert [endpoint.id for endpoint in endpoints.every(tx)] == ["e2", "e3"]
        assert states(tx)["10.64.0.130"] == states(tx)["fd01:b::8000:0:2"] == "free"
        assert states(tx)["10.64.0.131"] == "bound"


def test_a_forgotten_network_takes_everything_on_it_along_and_nothing_else(furnished: Store) -> None:
    with furnished.write() as tx:
        assert forget_network(tx, NETWORK, NOW) == ["e1", "e2"]
        assert [network.id for network in networks.every(tx)] == [OTHER]
        assert [endpoint.id for endpoint in endpoints.every(tx)] == ["e3"]
        held = {address for address, state in states(tx).items() if state != "free"}
        assert held == {"9.0.0.130"}
        assert {pool.id: pool.uses for pool in pools.every(tx)} == {"dcos/v4": 1, "dual/v4": 0, "dual/v6": 0}


def test_what_was_forgotten_may_come_back(furnished: Store) -> None:
    with furnished.write() as tx:
        forget_network(tx, NETWORK, NOW)
        put_network(tx, "c" * 64, "dual", (4, 6))
        put_endpoint(tx, "e1", "c" * 64, "10.64.0.130/25")
        assert states(tx)["10.64.0.130"] == "bound"


def test_the_whole_store_is_read_as_of_one_moment(furnished: Store) -> None:
    records = read_all(furnished)
    with furnished.read() as tx:
        assert records.overlays == overlays.every(tx)
        assert records.agent_subnets == overlays.agent_subnets(tx)
        assert records.pools == pools.every(tx)
        assert records.addresses == addresses.every(tx)
        assert records.networks == networks.every(tx)
        assert records.endpoints == endpoints.every(tx)
    assert (len(records.addresses), len(records.endpoints), len(records.networks)) == (6, 3, 2)
