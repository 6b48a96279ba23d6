# SPDX-License-Identifier: Apache-2.0
"""From what dockerd sent to what dni means."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network
from typing import Any

import pytest

from dni_driver.core.errors import InUse, MalformedRequest, Refused
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import AgentSubnet, Overlay
from dni_driver.core.records import EndpointRecord, PoolRecord
from dni_driver.plugin import reading, wire
from tests.fakes import DCOS, DUAL, SIX

HELD = [
    AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/24")),
    AgentSubnet(overlay="dcos", subnet=ip_network("9.0.7.0/24")),
    AgentSubnet(overlay="dual", subnet=ip_network("10.64.0.0/24")),
    AgentSubnet(overlay="dual", subnet=ip_network("fd01:b::/80")),
]
IN_USE = [
    PoolRecord(id="dcos/v4", family=4, overlay="dcos", uses=1),
    PoolRecord(id="dual/v4", family=4, overlay="dual", uses=1),
    PoolRecord(id="dual/v6", family=6, overlay="dual", uses=1),
    PoolRecord(id="plain/172.30.0.0/24", family=4, subnet=ip_network("172.30.0.0/24"), uses=1),
]


def told(*pools: str, gateway: str = "", aux: dict[str, str] | None = None) -> list[wire.IPAMData]:
    return [wire.IPAMData(pool=pool, gateway=gateway, aux_addresses=aux) for pool in pools]


def meant(*pools: str, in_use: list[PoolRecord] | None = None) -> str:
    return reading.overlay_meant(told(*pools), HELD, IN_USE if in_use is None else in_use)


def test_the_docker_half_tells_the_overlay() -> None:
    assert meant("9.0.0.128/25") == "dcos"
    assert meant("9.0.7.128/25") == "dcos"
    assert meant("10.64.0.128/25", "fd01:b::8000:0:0/81") == "dual"


def test_a_network_without_pools_is_refused_with_the_command_that_works() -> None:
    with pytest.raises(Refused, match="use `docker network create -d dni --ipam-driver dni NAME`"):
        meant()


def test_two_overlays_are_not_one_network() -> None:
    with pytest.raises(Refused, match="not on dcos and dual: say which, with --ipam-opt"):
        meant("9.0.0.128/25", "10.64.0.128/25")


NOW = 1_700_000_000.0


def check_families(*pools: str, overlay: Overlay = DUAL, asked: tuple[PoolRecord, ...] = ()) -> None:
    reading.check_families(told(*pools), overlay, asked, NOW)


def test_an_ipv6_only_overlay_has_no_network_of_ipv4_alone() -> None:
    check_families("198.18.0.0/20", "fd06::8000:0:0/81", overlay=SIX)
    check_families("fd06::8000:0:0/81", overlay=SIX)
    with pytest.raises(Refused, match="'six' is IPv6 only: add --ipv6"):
        check_families("198.18.0.0/20", overlay=SIX)


def test_an_overlay_whose_other_half_somebody_else_has_just_asked_for_is_not_taken_from_them() -> None:
    """A blank IPv6 request was taken for that of another network, which had asked for IPv4 of this overlay."""
    four = PoolRecord(id="dual/v4", family=4, overlay="dual", uses=1, since=NOW - 1)
    six = PoolRecord(id="dual/v6", family=6, overlay="dual", uses=1, since=NOW)
    check_families("10.64.0.128/25", "fd01:b::8000:0:0/81", asked=(four, six))
    with pytest.raises(InUse, match="another Docker network is being created on overlay 'dual'"):
        check_families("fd01:b::8000:0:0/81", asked=(four, six))
    long_ago = PoolRecord(id="dual/v4", family=4, overlay="dual", uses=1, since=NOW - 1000)
    check_families("fd01:b::8000:0:0/81", asked=(long_ago, six))
    check_families("9.0.0.128/25", overlay=DCOS, asked=(four, six))


def test_two_halves_are_not_one_pool() -> None:
    with pytest.raises(Refused, match="give one --subnet of a family"):
        meant("9.0.0.128/25", "9.0.7.128/25")


def test_a_plain_pool_is_refused_with_the_command_that_defines_an_overlay() -> None:
    command = r"--subnet 172\.30\.0\.0/24 --ipam-opt overlay=NAME NAME"
    with pytest.raises(Refused, match=f"belongs to no overlay.*{command}.*without --subnet"):
        meant("172.30.0.0/24")


@pytest.mark.parametrize("pool", ["172.18.0.0/16", "9.0.0.0/25", "0.0.0.0/0"])
def test_another_ipam_drivers_pool_is_refused_with_the_command_that_works(pool: str) -> None:
    with pytest.raises(Refused, match=r"-d dni needs --ipam-driver dni too: use `docker network create"):
        meant(pool)


def test_a_docker_half_that_was_not_asked_of_dni_is_another_ipam_drivers() -> None:
    idle = [PoolRecord(id="dcos/v4", family=4, overlay="dcos", uses=0)]
    with pytest.raises(Refused, match="-d dni needs --ipam-driver dni too"):
        meant("9.0.0.128/25", in_use=idle)


def test_a_docker_half_from_another_address_space_is_another_ipam_drivers_whoever_else_uses_it() -> None:
    """A use whose release dockerd lost made --subnet 9.0.0.128/25 of Docker's own IPAM driver pass for ours."""
    data = wire.IPAMData(address_space="LocalDefault", pool="9.0.0.128/25")
    with pytest.raises(Refused, match="-d dni needs --ipam-driver dni too"):
        reading.overlay_meant([data], HELD, IN_USE)


def test_a_pool_that_is_no_subnet_is_malformed() -> None:
    with pytest.raises(MalformedRequest, match="pool 'nonsense' is not a subnet"):
        meant("nonsense")


def test_pools_are_told_ipv4_first_and_lists_may_be_null() -> None:
    four, six = wire.IPAMData(pool="9.0.0.128/25"), wire.IPAMData(pool="fd01:b::8000:0:0/81")
    request = wire.CreateNetworkRequest(network_id="n", ipv4_data=[four], ipv6_data=[six])
    assert reading.told_pools(request) == [four, six]
    assert reading.told_pools(wire.CreateNetworkRequest(network_id="n")) == []


def test_options_come_under_dockers_own_key() -> None:
    options = {wire.GENERIC: {"mtu": "1400", "isolated": "false"}, wire.INTERNAL: True, "other": {"x": 1}}
    assert reading.network_options(options) == NetworkOptions(mtu=1400, isolated=False, internal=True)


@pytest.mark.parametrize("options", [None, {}, {wire.GENERIC: None}, {wire.GENERIC: {}}])
def test_options_may_be_missing(options: dict[str, Any] | None) -> None:
    assert reading.network_options(options) == NetworkOptions()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({wire.GENERIC: "mtu"}, "must be a map of texts"),
        ({wire.GENERIC: {"mtu": 1400}}, "must be a map of texts"),
        ({wire.GENERIC: ["mtu"]}, "must be a map of texts"),
        ({wire.INTERNAL: "true"}, "must be true or false"),
        ({wire.INTERNAL: None}, "must be true or false"),
    ],
)
def test_options_of_other_types_are_malformed(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        reading.network_options(options)


def test_gateways_are_read_by_family() -> None:
    both = [
        *told("9.0.0.128/25", gateway="9.0.0.129/25"),
        *told("fd01:b::8000:0:0/81", gateway="fd01:b::8000:0:1/81"),
    ]
    assert reading.gateways(both) == (IPv4Interface("9.0.0.129/25"), IPv6Interface("fd01:b::8000:0:1/81"))
    assert reading.gateways(told("9.0.0.128/25")) == (None, None)


def test_a_network_keeps_its_gateway_and_auxiliary_addresses() -> None:
    data = told("9.0.0.128/25", gateway="9.0.0.129/25", aux={"router": "9.0.0.140/25", "printer": "9.0.0.141/25"})
    assert list(reading.own_addresses(data)) == [ip_address(f"9.0.0.{last}") for last in (129, 140, 141)]


def test_an_auxiliary_address_that_the_engine_could_not_write_is_passed_over() -> None:
    data = told("9.0.0.128/25", aux={"a": "<nil>", "b": "", "c": "9.0.0.140/25"})
    assert list(reading.own_addresses(data)) == [ip_address("9.0.0.140")]


def endpoint(address: str = "", address6: str = "", mac: str = "") -> EndpointRecord:
    given = wire.EndpointInterface(address=address, address_ipv6=address6, mac_address=mac)
    request = wire.CreateEndpointRequest(network_id="n1", endpoint_id="e1", interface=given)
    return reading.endpoint(request, given, 5.0)


def test_an_endpoint_gets_a_mac_that_follows_from_its_address() -> None:
    assert endpoint("9.0.0.130/25") == EndpointRecord(
        id="e1", network="n1", mac="02:42:09:00:00:82", address=IPv4Interface("9.0.0.130/25"), since=5.0
    )


def test_of_two_addresses_the_mac_follows_from_ipv4() -> None:
    both = endpoint("10.64.0.130/25", "fd01:b::8000:0:2/81")
    assert both.mac == "02:42:0a:40:00:82"
    assert both.address6 == IPv6Interface("fd01:b::8000:0:2/81")


def test_an_ipv6_address_in_the_place_of_the_other_is_filed_by_its_family() -> None:
    six = endpoint("fd01:b::8000:0:2/81")
    assert (six.address, six.address6) == (None, IPv6Interface("fd01:b::8000:0:2/81"))


def test_a_mac_of_the_users_is_kept() -> None:
    assert endpoint("9.0.0.130/25", mac="02:AA:BB:CC:DD:EE").mac == "02:aa:bb:cc:dd:ee"


def test_an_endpoint_without_an_address_is_refused_with_the_command_that_works() -> None:
    with pytest.raises(Refused, match="needs an address from its IPAM driver: use `docker network create"):
        endpoint()


def test_an_endpoint_with_a_bad_mac_or_address_is_refused() -> None:
    with pytest.raises(Refused, match="is not a MAC address"):
        endpoint("9.0.0.130/25", mac="02:42")
    with pytest.raises(MalformedRequest, match="address 'here' is not an address with a mask"):
        endpoint("here")
