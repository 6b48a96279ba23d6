# SPDX-License-Identifier: Apache-2.0
"""Docker networks: one for each overlay at the most."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface

import pytest

from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.records import NetworkRecord
from dni_driver.store import Store, Transaction, networks

FULL = NetworkRecord(
    id="a" * 64,
    overlay="dual",
    options=NetworkOptions(mtu=1400, masquerade=False, isolated=False, internal=True),
    mtu=1400,
    gateway=IPv4Interface("10.64.0.129/25"),
    gateway6=IPv6Interface("fd01:b::8000:0:1/81"),
    name="web",
    since=1_700_000_000.5,
)
BARE = NetworkRecord(id="b" * 64, overlay="dcos", options=NetworkOptions(), mtu=1450)


@pytest.fixture
def tx(store: Store) -> Iterator[Transaction]:
    """Answer a transaction."""
    with store.write() as tx:
        yield tx


@pytest.mark.parametrize("network", [FULL, BARE])
def test_a_network_is_answered_as_it_was_recorded(tx: Transaction, network: NetworkRecord) -> None:
    networks.add(tx, network)
    assert networks.find(tx, network.id) == network
    assert networks.of_overlay(tx, network.overlay) == network
    assert networks.known(tx, network.id)


def test_networks_are_listed_by_overlay(tx: Transaction) -> None:
    networks.add(tx, FULL)
    networks.add(tx, BARE)
    assert networks.every(tx) == [BARE, FULL]


def test_a_second_network_on_an_overlay_is_refused_naming_the_first(tx: Transaction) -> None:
    networks.add(tx, FULL)
    second = NetworkRecord(id="c" * 64, overlay="dual", options=NetworkOptions(), mtu=1450)
    with pytest.raises(InUse, match=r"'dual' already has the Docker network 'web'.*docker network rm web"):
        networks.add(tx, second)
    assert networks.every(tx) == [FULL]


def test_the_first_is_named_by_its_short_id_where_its_name_is_not_known(tx: Transaction) -> None:
    networks.add(tx, BARE)
    with pytest.raises(InUse, match="already has the Docker network 'bbbbbbbbbbbb'"):
        networks.add(tx, NetworkRecord(id="c" * 64, overlay="dcos", options=NetworkOptions(), mtu=1450))


def test_a_repeat_changes_nothing(tx: Transaction) -> None:
    networks.add(tx, FULL)
    networks.add(tx, NetworkRecord(id=FULL.id, overlay="dual", options=NetworkOptions(), mtu=9000))
    assert networks.every(tx) == [FULL]


def test_a_name_is_recorded_later(tx: Transaction) -> None:
    networks.add(tx, BARE)
    networks.set_name(tx, BARE.id, "dcos")
    assert networks.find(tx, BARE.id).label == "dcos"


def test_a_removed_network_is_unknown(tx: Transaction) -> None:
    networks.add(tx, BARE)
    networks.remove(tx, BARE.id)
    networks.remove(tx, BARE.id)
    assert not networks.known(tx, BARE.id)
    assert networks.of_overlay(tx, "dcos") is None
    with pytest.raises(NotFound, match="network bbbbbbbbbbbb is not recorded by dni"):
        networks.find(tx, BARE.id)
