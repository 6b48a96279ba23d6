# SPDX-License-Identifier: Apache-2.0
"""What follows from the records: halves, gateways, pool ids."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network

import pytest

from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import AgentSubnet
from dni_driver.core.records import (
    EndpointRecord,
    NetworkRecord,
    bridge_address,
    docker_halves,
    gateway_for,
    overlay_of_half,
    plain_pool_id,
    pool_id,
    with_mask,
)

HELD = [
    AgentSubnet(overlay="dcos", subnet=ip_network("9.0.7.0/24")),
    AgentSubnet(overlay="dual", subnet=ip_network("10.64.0.0/24")),
    AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/24")),
    AgentSubnet(overlay="dual", subnet=ip_network("fd01:b::/80")),
]
HALF, HALF6 = ip_network("10.64.0.128/25"), ip_network("fd01:b::8000:0:0/81")


def network(gateway: str | None = None, gateway6: str | None = None) -> NetworkRecord:
    return NetworkRecord(
        id="n1",
        overlay="dual",
        options=NetworkOptions(),
        mtu=1450,
        gateway=IPv4Interface(gateway) if gateway else None,
        gateway6=IPv6Interface(gateway6) if gateway6 else None,
    )


def test_pool_ids_are_the_same_for_ever() -> None:
    assert (pool_id("dcos", 4), pool_id("dcos", 6)) == ("dcos/v4", "dcos/v6")
    assert plain_pool_id(ip_network("172.30.0.0/24")) == "plain/172.30.0.0/24"


def test_docker_halves_come_in_the_order_they_were_leased() -> None:
    assert docker_halves(HELD, "dcos") == [ip_network("9.0.7.128/25"), ip_network("9.0.0.128/25")]
    assert docker_halves(HELD, "dual", 4) == [HALF]
    assert docker_halves(HELD, "dual", 6) == [HALF6]
    assert docker_halves(HELD, "dev") == []


@pytest.mark.parametrize(
    ("subnet", "overlay"),
    [("9.0.7.128/25", "dcos"), ("fd01:b::8000:0:0/81", "dual"), ("9.0.7.0/25", None), ("9.0.7.0/24", None)],
)
def test_a_docker_half_tells_its_overlay(subnet: str, overlay: str | None) -> None:
    assert overlay_of_half(ip_network(subnet), HELD) == overlay


def test_a_bridge_carries_the_gateway_with_the_mask_of_its_half() -> None:
    assert bridge_address(HALF, network()) == ip_interface("10.64.0.129/25")
    assert bridge_address(HALF6, network()) == ip_interface("fd01:b::8000:0:1/81")


def test_the_users_gateway_takes_the_place_of_the_first_host() -> None:
    chosen = network("10.64.0.200/25", "fd01:b::8000:0:99/81")
    assert bridge_address(HALF, chosen) == ip_interface("10.64.0.200/25")
    assert bridge_address(HALF6, chosen) == ip_interface("fd01:b::8000:0:99/81")


def test_a_second_half_keeps_its_own_gateway() -> None:
    assert bridge_address(ip_network("10.64.9.128/25"), network("10.64.0.200/25")) == ip_interface("10.64.9.129/25")


def test_a_container_gets_the_gateway_of_the_half_it_lies_in() -> None:
    halves = [HALF, ip_network("10.64.9.128/25"), HALF6]
    assert gateway_for(ip_address("10.64.0.130"), network(), halves) == ip_address("10.64.0.129")
    assert gateway_for(ip_address("10.64.9.200"), network("10.64.0.200/25"), halves) == ip_address("10.64.9.129")
    assert gateway_for(ip_address("fd01:b::8000:0:2"), network(), halves) == ip_address("fd01:b::8000:0:1")
    assert gateway_for(ip_address("10.1.1.1"), network(), halves) is None


def test_an_address_gets_the_mask_of_its_half() -> None:
    assert with_mask(ip_address("10.64.0.130"), HALF) == ip_interface("10.64.0.130/25")
    assert with_mask(ip_address("fd01:b::8000:0:2"), HALF6) == ip_interface("fd01:b::8000:0:2/81")


def test_a_network_is_called_by_its_short_id_until_its_name_is_known() -> None:
    record = NetworkRecord(id="0123456789abcdef", overlay="dcos", options=NetworkOptions(), mtu=1450)
    assert record.label == "0123456789ab"
    assert NetworkRecord(id="0123", overlay="dcos", options=NetworkOptions(), mtu=1450, name="web").label == "web"


def test_an_endpoint_tells_its_addresses_ipv4_first() -> None:
    four, six = IPv4Interface("10.64.0.130/25"), IPv6Interface("fd01:b::8000:0:2/81")
    endpoint = EndpointRecord(id="e1", network="n1", mac="02:42:0a:40:00:82", address=four, address6=six)
    assert endpoint.interfaces() == [four, six]
    assert EndpointRecord(id="e1", network="n1", mac="02:42:0a:40:00:82").interfaces() == []
