# SPDX-License-Identifier: Apache-2.0
"""Endpoints: containers' places on our networks."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

import msgspec
import pytest

from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.records import EndpointRecord, NetworkRecord
from dni_driver.store import Store, Transaction, endpoints, networks

NETWORK, OTHER = "a" * 64, "b" * 64
BOTH = EndpointRecord(
    id="e1",
    network=NETWORK,
    mac="02:42:0a:40:00:82",
    address=IPv4Interface("10.64.0.130/25"),
    address6=IPv6Interface("fd01:b::8000:0:2/81"),
    since=1_700_000_000.5,
)
SIX = EndpointRecord(id="e0", network=OTHER, mac="02:42:00:00:00:03", address6=IPv6Interface("fd01:b::8000:0:3/81"))


@pytest.fixture
def tx(store: Store) -> Iterator[Transaction]:
    """Answer a transaction on a store with two networks."""
    with store.write() as tx:
        networks.add(tx, NetworkRecord(id=NETWORK, overlay="dual", options=NetworkOptions(), mtu=1450))
        networks.add(tx, NetworkRecord(id=OTHER, overlay="dcos", options=NetworkOptions(), mtu=1450))
        yield tx


@pytest.mark.parametrize("endpoint", [BOTH, SIX])
def test_an_endpoint_is_answered_as_it_was_recorded(tx: Transaction, endpoint: EndpointRecord) -> None:
    endpoints.add(tx, endpoint)
    assert endpoints.find(tx, endpoint.id) == endpoint


def test_a_repeat_changes_nothing(tx: Transaction) -> None:
    endpoints.add(tx, BOTH)
    endpoints.add(tx, msgspec.structs.replace(BOTH, mac="02:42:ff:ff:ff:ff"))
    assert endpoints.every(tx) == [BOTH]


@pytest.mark.parametrize("other", [{"network": OTHER}, {"address": IPv4Interface("10.64.0.131/25")}])
def test_an_id_that_stands_for_another_endpoint_is_refused(tx: Transaction, other: dict[str, object]) -> None:
    endpoints.add(tx, BOTH)
    with pytest.raises(InUse, match="endpoint e1 is recorded with another network or address"):
        endpoints.add(tx, msgspec.structs.replace(BOTH, **other))
    assert endpoints.every(tx) == [BOTH]


def test_endpoints_are_listed_of_one_network_or_all(tx: Transaction) -> None:
    endpoints.add(tx, BOTH)
    endpoints.add(tx, SIX)
    assert endpoints.every(tx) == [SIX, BOTH]
    assert endpoints.of_network(tx, NETWORK) == [BOTH]


def test_other_options_are_recorded_beside_an_address_that_was_asked_for(tx: Transaction) -> None:
    asked = EndpointOptions(address=IPv4Address("10.64.0.130"), address6=IPv6Address("fd01:b::8000:0:2"))
    endpoints.add(tx, msgspec.structs.replace(BOTH, options=asked))
    limited = msgspec.structs.replace(asked, egress=10_000_000)
    endpoints.set_options(tx, BOTH.id, limited)
    assert endpoints.find(tx, BOTH.id).options == limited


def test_a_sandbox_is_joined_and_left(tx: Transaction) -> None:
    endpoints.add(tx, BOTH)
    endpoints.joined(tx, "e1", "/var/run/docker/netns/1")
    endpoints.set_ifname(tx, "e1", "eth0")
    joined = endpoints.find(tx, "e1")
    assert (joined.sandbox, joined.ifname) == ("/var/run/docker/netns/1", "eth0")
    endpoints.left(tx, "e1")
    assert endpoints.find(tx, "e1") == BOTH


def test_a_new_sandbox_makes_the_old_links_name_unknown(tx: Transaction) -> None:
    endpoints.add(tx, BOTH)
    endpoints.joined(tx, "e1", "/var/run/docker/netns/1")
    endpoints.set_ifname(tx, "e1", "eth0")
    endpoints.joined(tx, "e1", "/var/run/docker/netns/2")
    assert endpoints.find(tx, "e1").ifname is None


def test_an_unknown_endpoint_leaves_and_goes_without_an_error(tx: Transaction) -> None:
    endpoints.left(tx, "nobody")
    endpoints.remove(tx, "nobody")
    with pytest.raises(NotFound, match="endpoint nobody is not recorded by dni: start its container again"):
        endpoints.find(tx, "nobody")


def test_a_removed_endpoint_is_unknown(tx: Transaction) -> None:
    endpoints.add(tx, BOTH)
    endpoints.remove(tx, "e1")
    assert endpoints.every(tx) == []
