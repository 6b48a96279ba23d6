# SPDX-License-Identifier: Apache-2.0
"""What a driver-opt may say about one endpoint."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from dni_driver.core.errors import Refused
from dni_driver.core.options.bandwidth import UNLIMITED
from dni_driver.core.options.endpoint import EndpointOptions, parse_endpoint_options


def test_what_dockerd_adds_itself_is_no_option_of_ours() -> None:
    given: dict[str, object] = {"com.docker.network.portmap": [], "com.docker.network.endpoint.exposedports": []}
    assert parse_endpoint_options(given) == EndpointOptions()


def test_the_settings_that_dockerd_makes_in_the_container_itself_are_left_to_it() -> None:
    assert parse_endpoint_options({"com.docker.network.endpoint.sysctls": "x"}) == EndpointOptions()


def test_a_name_for_the_link_that_dockerd_would_not_give_it_is_refused() -> None:
    """No engine up to 28.5 does, and none says so."""
    with pytest.raises(Refused, match=r"endpoint\.ifname is only for Docker's own drivers: .*container_iface_prefix"):
        parse_endpoint_options({"com.docker.network.endpoint.ifname": "lan0"})


@pytest.mark.parametrize("key", ["spoof", "dni.spoof"])
def test_an_option_is_known_with_and_without_our_prefix(key: str) -> None:
    assert parse_endpoint_options({key: "allow"}) == EndpointOptions(spoof=True)


def test_the_limits_of_one_endpoint_are_read_and_none_is_a_word_too() -> None:
    given: dict[str, object] = {"egress": "10mbit", "dni.ingress": "none"}
    assert parse_endpoint_options(given) == EndpointOptions(egress=10_000_000, ingress=UNLIMITED)


@pytest.mark.parametrize("key", ["groups", "dni.groups"])
def test_groups_are_read_each_once(key: str) -> None:
    assert parse_endpoint_options({key: "web,public, web"}) == EndpointOptions(groups=("web", "public"))
    assert parse_endpoint_options({key: "a" * 63}).groups == ("a" * 63,)


@pytest.mark.parametrize("text", ["", ",", "web,", "-web", "a b", "a" * 64, "w\u00e9b", "w\nb"])
def test_what_names_no_group_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(
        Refused, match=r"is no name of a group: use 1 to 63 letters, .*, as in dni\.groups=public,web"
    ):
        parse_endpoint_options({"groups": text})


@pytest.mark.parametrize("key", ["egress", "ingress"])
def test_a_limit_that_is_no_rate_is_refused(key: str) -> None:
    with pytest.raises(Refused, match=rf"option {key}='much' is not a rate from 256kbit to 32gbit"):
        parse_endpoint_options({key: "much"})


@pytest.mark.parametrize(("given", "named"), [({"colour": "red"}, "'colour'"), ({"spoof": 1}, "'spoof'")])
def test_an_unknown_option_is_refused_with_those_there_are(given: dict[str, object], named: str) -> None:
    with pytest.raises(
        Refused, match=rf"driver-opt {named} is not known to dni: use dni.spoof, dni.egress, dni.ingress"
    ):
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
    with pytest.raises(Refused, match=f"driver-opt dni.{key}='{text}' is not an address such as {example}"):
        parse_endpoint_options({key: text})


def test_a_value_that_is_not_allowed_is_refused_with_those_that_are() -> None:
    with pytest.raises(Refused, match=r"option spoof='perhaps' is neither allow nor deny"):
        parse_endpoint_options({"spoof": "perhaps"})
