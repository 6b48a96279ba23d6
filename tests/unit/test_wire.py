# SPDX-License-Identifier: Apache-2.0
"""The bytes of libnetwork's remote protocol, in and out."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dni_driver.core.errors import EmptyBody, MalformedRequest
from dni_driver.plugin import wire

NETWORK, ENDPOINT = "a" * 64, "b" * 64

REQUESTS: list[type[wire.Request]] = [
    wire.NetworkRequest,
    wire.CreateNetworkRequest,
    wire.AllocateNetworkRequest,
    wire.GwAllocCheckRequest,
    wire.EndpointRequest,
    wire.CreateEndpointRequest,
    wire.JoinRequest,
    wire.ProgramExternalConnectivityRequest,
    wire.DiscoveryRequest,
    wire.RequestPoolRequest,
    wire.ReleasePoolRequest,
    wire.RequestAddressRequest,
    wire.ReleaseAddressRequest,
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def test_create_network_is_read_as_dockerd_sends_it() -> None:
    request = wire.decode(
        body(
            NetworkID=NETWORK,
            Options={"com.docker.network.enable_ipv6": False, wire.GENERIC: {"mtu": "1400"}, wire.INTERNAL: True},
            IPv4Data=[
                {
                    "AddressSpace": "dni-local",
                    "Pool": "9.0.0.128/25",
                    "Gateway": "9.0.0.129/25",
                    "AuxAddresses": {"router": "9.0.0.140/25"},
                }
            ],
            IPv6Data=[],
        ),
        wire.CreateNetworkRequest,
    )
    data = wire.IPAMData(
        address_space="dni-local",
        pool="9.0.0.128/25",
        gateway="9.0.0.129/25",
        aux_addresses={"router": "9.0.0.140/25"},
    )
    assert (request.network_id, request.ipv4_data, request.ipv6_data) == (NETWORK, [data], [])
    assert request.options is not None
    assert request.options[wire.GENERIC] == {"mtu": "1400"}


def test_create_endpoint_is_read_as_dockerd_sends_it() -> None:
    request = wire.decode(
        body(
            NetworkID=NETWORK,
            EndpointID=ENDPOINT,
            Interface={"Address": "9.0.0.130/25", "AddressIPv6": "fd01:b::2/81", "MacAddress": "02:42:09:00:00:82"},
            Options={"com.docker.network.endpoint.exposedports": [{"Proto": 6, "Port": 80}], "mykey": "myval"},
        ),
        wire.CreateEndpointRequest,
    )
    assert (request.network_id, request.endpoint_id) == (NETWORK, ENDPOINT)
    assert request.interface == wire.EndpointInterface(
        address="9.0.0.130/25", address_ipv6="fd01:b::2/81", mac_address="02:42:09:00:00:82"
    )


def test_join_is_read_as_dockerd_sends_it() -> None:
    key = "/var/run/docker/netns/7541c34f2dc7"
    request = wire.decode(body(NetworkID=NETWORK, EndpointID=ENDPOINT, SandboxKey=key, Options={}), wire.JoinRequest)
    assert (request.endpoint_id, request.sandbox_key) == (ENDPOINT, key)


def test_ipam_requests_are_read_as_dockerd_sends_them() -> None:
    pool = wire.decode(
        body(AddressSpace="dni-local", Pool="9.0.0.0/8", SubPool="", Options=None, V6=False), wire.RequestPoolRequest
    )
    assert (pool.pool, pool.sub_pool, pool.options, pool.v6) == ("9.0.0.0/8", "", None, False)
    gateway = wire.decode(
        body(PoolID="dcos/v4", Address="", Options={wire.ADDRESS_TYPE: wire.GATEWAY_TYPE}), wire.RequestAddressRequest
    )
    assert (gateway.pool_id, gateway.address, gateway.options) == (
        "dcos/v4",
        "",
        {"RequestAddressType": "com.docker.network.gateway"},
    )
    assert wire.decode(body(PoolID="dcos/v4", Address="9.0.0.130"), wire.ReleaseAddressRequest).address == "9.0.0.130"
    assert wire.decode(body(PoolID="dcos/v4"), wire.ReleasePoolRequest).pool_id == "dcos/v4"


def test_fields_of_newer_engines_are_passed_over() -> None:
    request = wire.decode(body(NetworkID=NETWORK, Labels={"a": "b"}, Flags=[1]), wire.NetworkRequest)
    assert request.network_id == NETWORK


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("empty", [b"", b"\n", b"  \r\n"])
def test_a_request_without_a_body_is_a_cut_off_retry(kind: type[wire.Request], empty: bytes) -> None:
    with pytest.raises(EmptyBody, match=r"retry of a call that was cut off.*run the command again"):
        wire.decode(empty, kind)


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize(
    "bad", [b"{", b"[]", b'"text"', b"null", b"7", b"\xff\xfe", b"{}{}", rb'{"NetworkID":"\ud800"}', b"[" * 100_000]
)
def test_what_is_no_object_is_malformed(kind: type[wire.Request], bad: bytes) -> None:
    with pytest.raises(MalformedRequest, match="the request cannot be read"):
        wire.decode(bad, kind)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, "NetworkID"),
        ({"NetworkID": None}, "NetworkID"),
        ({"NetworkID": 7}, "NetworkID"),
        ({"NetworkID": NETWORK, "Options": []}, "Options"),
        ({"NetworkID": NETWORK, "IPv4Data": {}}, "IPv4Data"),
        ({"NetworkID": NETWORK, "IPv4Data": [{"Pool": 9}]}, "Pool"),
        ({"NetworkID": NETWORK, "IPv4Data": [{"AuxAddresses": {"a": 1}}]}, "AuxAddresses"),
    ],
)
def test_the_wrong_field_is_named(fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(MalformedRequest, match=wrong):
        wire.decode(body(**fields), wire.CreateNetworkRequest)


@pytest.mark.parametrize("name", ["", "../../etc", "a b", "a\n", "é", "x" * 129, "a/b", "-"])
def test_an_id_is_letters_and_digits(name: str) -> None:
    with pytest.raises(MalformedRequest, match=r"network_id .* is not an id"):
        wire.decode(body(NetworkID=name), wire.NetworkRequest)
    with pytest.raises(MalformedRequest, match=r"endpoint_id .* is not an id"):
        wire.decode(body(NetworkID=NETWORK, EndpointID=name), wire.EndpointRequest)


@pytest.mark.parametrize("name", [NETWORK, "5ub8scz0m9q3bqqkpk8ri9yhr", "x" * 128])
def test_dockers_and_swarms_ids_are_ids(name: str) -> None:
    assert wire.decode(body(NetworkID=name), wire.NetworkRequest).network_id == name


@settings(max_examples=30)
@pytest.mark.parametrize("kind", REQUESTS)
@given(garbage=st.binary())
def test_bytes_are_read_or_malformed(kind: type[wire.Request], garbage: bytes) -> None:
    read_or_malformed(kind, garbage)


@settings(max_examples=30)
@pytest.mark.parametrize("kind", REQUESTS)
@given(data=st.data())
def test_values_of_any_type_are_read_or_malformed(kind: type[wire.Request], data: st.DataObject) -> None:
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    fields = data.draw(st.dictionaries(st.sampled_from(names), json_values))
    read_or_malformed(kind, json.dumps(fields).encode())


def read_or_malformed(kind: type[wire.Request], content: bytes) -> None:
    try:
        request = wire.decode(content, kind)
    except MalformedRequest:
        return
    assert isinstance(request, kind)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (wire.Response(), {}),
        (wire.ActivateResponse(implements=["NetworkDriver"]), {"Implements": ["NetworkDriver"]}),
        (
            wire.NetworkCapabilities(scope="local", connectivity_scope="global", gw_alloc_checker=True),
            {"Scope": "local", "ConnectivityScope": "global", "GwAllocChecker": True},
        ),
        (wire.GwAllocCheckResponse(skip_ipv4=False, skip_ipv6=True), {"SkipIPv4": False, "SkipIPv6": True}),
        (
            wire.IpamCapabilities(requires_mac_address=False, requires_request_replay=False),
            {"RequiresMACAddress": False, "RequiresRequestReplay": False},
        ),
        (
            wire.AddressSpaces(local_default_address_space="l", global_default_address_space="g"),
            {"LocalDefaultAddressSpace": "l", "GlobalDefaultAddressSpace": "g"},
        ),
        (
            wire.RequestPoolResponse(pool_id="dcos/v4", pool="9.0.0.128/25", data={}),
            {"PoolID": "dcos/v4", "Pool": "9.0.0.128/25", "Data": {}},
        ),
        (
            wire.RequestAddressResponse(address="9.0.0.130/25", data={}),
            {"Address": "9.0.0.130/25", "Data": {}},
        ),
        (wire.OperInfoResponse(value={}), {"Value": {}}),
        (wire.AllocateNetworkResponse(options={"a": "b"}), {"Options": {"a": "b"}}),
    ],
)
def test_a_response_has_the_names_that_go_reads(response: wire.Response, expected: dict[str, Any]) -> None:
    assert json.loads(wire.encode(response)) == expected


def test_an_interface_is_answered_only_with_what_it_adds() -> None:
    assert json.loads(wire.encode(wire.CreateEndpointResponse())) == {}
    mac = wire.CreateEndpointResponse(interface=wire.NewInterface(mac_address="02:42:09:00:00:82"))
    assert json.loads(wire.encode(mac)) == {"Interface": {"MacAddress": "02:42:09:00:00:82"}}


def test_join_answers_a_link_and_bare_gateways() -> None:
    name = wire.InterfaceName(src_name="dnc0123456789a", dst_prefix="eth")
    answer = json.loads(wire.encode(wire.JoinResponse(interface_name=name, gateway="9.0.0.129")))
    assert answer == {"InterfaceName": {"SrcName": "dnc0123456789a", "DstPrefix": "eth"}, "Gateway": "9.0.0.129"}
    alone = json.loads(wire.encode(wire.JoinResponse(interface_name=name, disable_gateway_service=True)))
    assert alone["DisableGatewayService"] is True
    assert "Gateway" not in alone


def test_addresses_and_subnets_are_read() -> None:
    assert wire.read_address("9.0.0.130", "address") == ip_address("9.0.0.130")
    assert wire.read_interface("9.0.0.130/25", "address") == ip_interface("9.0.0.130/25")
    assert wire.read_network("9.0.0.0/8", "subnet") == ip_network("9.0.0.0/8")


def test_host_bits_of_a_subnet_are_masked_away() -> None:
    assert wire.read_network("10.64.3.7/16", "subnet") == ip_network("10.64.0.0/16")


@given(st.text(), st.sampled_from([wire.read_address, wire.read_interface, wire.read_network]))
def test_any_text_is_read_or_malformed_in_one_line(text: str, reader: Any) -> None:
    try:
        reader(text, "thing")
    except MalformedRequest as error:
        message = str(error)
    else:
        return
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize("text", ["9.0.0.130/25", "9.0.0", "9.0.0.0130", "9.0.0.130 ", "", "1" * 5000])
def test_what_is_no_bare_address_is_malformed(text: str) -> None:
    with pytest.raises(MalformedRequest, match=r"address .* is not an IP address"):
        wire.read_address(text, "address")
