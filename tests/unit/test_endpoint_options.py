# SPDX-License-Identifier: Apache-2.0
"""What a driver-opt may say about one endpoint."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from dni_driver.core.endpoint_options import EndpointOptions, parse_endpoint_options
from dni_driver.core.errors import Refused


def test_what_dockerd_adds_itself_is_no_option_of_ours() -> None:
    given: dict[str, object] = {"com.docker.network.portmap": [], "com.docker.network.endpoint.exposedports": []}
    assert parse_endpoint_options(given) == EndpointOptions()


@pytest.mark.parametrize("key", ["spoof", "dni.spoof"])
def test_an_option_is_known_with_and_without_our_prefix(key: str) -> None:
    assert parse_endpoint_options({key: "allow"}) == EndpointOptions(spoof=True)


@pytest.mark.parametrize(("given", "named"), [({"colour": "red"}, "'colour'"), ({"spoof": 1}, "'spoof'")])
def test_an_unknown_option_is_refused_with_those_there_are(given: dict[str, object], named: str) -> None:
    with pytest.raises(Refused, match=rf"driver-opt {named} is not known to dni: use spoof"):
        parse_endpoint_options(given)


def test_an_address_of_each_family_can_be_asked_for() -> None:
    options = parse_endpoint_options({"dni.address": "9.0.0.140", "address6": "fd01:b::8000:0:8c"})
    assert options.asked() == [ip_address("9.0.0.140"), ip_address("fd01:b::8000:0:8c")]
    assert EndpointOptions().asked() == []


@pytest.mark.parametrize(
    ("key", "text", "example"),
    [
        ("address", "web", "9.0.0.140"),
        ("address", "9.0.0.140/25", "9.0.0.140"),
        ("address", "fd01:b::1", "9.0.0.140"),
        ("address6", "9.0.0.140", "fd01:b::8000:0:8c"),
        ("address6", "fd01:b::1%eth0", "fd01:b::8000:0:8c"),
    ],
)
def test_what_is_no_address_of_its_family_is_refused(key: str, text: str, example: str) -> None:
    with pytest.raises(Refused, match=f"option {key}='{text}' is not an address such as {example}"):
        parse_endpoint_options({key: text})


def test_a_value_that_is_not_allowed_is_refused_with_those_that_are() -> None:
    with pytest.raises(Refused, match=r"option spoof='perhaps' is neither allow nor deny"):
        parse_endpoint_options({"spoof": "perhaps"})
