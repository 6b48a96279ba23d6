# SPDX-License-Identifier: Apache-2.0
"""What `docker network create -o` may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.errors import BadName, Refused
from dni_driver.core.options.bandwidth import UNLIMITED
from dni_driver.core.options.network import (
    LARGEST_MTU,
    LINK_PREFIX_KEY,
    MTU_KEYS,
    SMALLEST_MTU,
    NetworkOptions,
    parse_options,
)
from tests.unit.refusals import refusal


def test_without_options_a_network_is_masqueraded_isolated_and_has_the_underlays_mtu() -> None:
    assert parse_options({}) == NetworkOptions(mtu=None, masquerade=True, isolated=True, internal=False)


@pytest.mark.parametrize("key", MTU_KEYS)
@given(mtu=st.integers(SMALLEST_MTU, LARGEST_MTU))
def test_both_keys_set_the_mtu(key: str, mtu: int) -> None:
    assert parse_options({key: str(mtu)}).mtu == mtu


def test_both_mtu_keys_may_agree_but_not_differ() -> None:
    assert parse_options(dict.fromkeys(MTU_KEYS, "1400")).mtu == 1400
    with pytest.raises(Refused, match="different things"):
        parse_options({MTU_KEYS[0]: "1400", MTU_KEYS[1]: "1500"})


@pytest.mark.parametrize(
    "text",
    ["", "551", "65536", "-1500", "+1500", "1500.0", "big", " 1500", "\u0661\u0665\u0660\u0660", "1_500", "9" * 5000],
)
def test_an_mtu_is_a_number_of_bytes_in_bounds(text: str) -> None:
    with pytest.raises(Refused, match="is not a number of bytes from 552 to 65535"):
        parse_options({"mtu": text})


@pytest.mark.parametrize("text", ["false", "0", "no", "off", "False", "OFF"])
def test_a_switch_is_turned_off_in_many_ways(text: str) -> None:
    options = parse_options({"masquerade": text, "isolated": text})
    assert (options.masquerade, options.isolated) == (False, False)


@pytest.mark.parametrize("text", ["true", "1", "yes", "on", "TRUE"])
def test_a_switch_is_turned_on_in_as_many(text: str) -> None:
    options = parse_options({"masquerade": text, "isolated": text})
    assert (options.masquerade, options.isolated) == (True, True)


@pytest.mark.parametrize("key", ["masquerade", "isolated"])
@pytest.mark.parametrize("text", ["", "maybe", "2"])
def test_anything_else_is_refused_with_key_and_value(key: str, text: str) -> None:
    with pytest.raises(Refused, match=f"option {key}={text!r} is neither true nor false"):
        parse_options({key: text})


def test_a_network_has_limits_for_each_of_its_containers() -> None:
    options = parse_options({"egress": "1.5gbit", "ingress": "500kbps"})
    assert (options.egress, options.ingress) == (1_500_000_000, 4_000_000)
    assert (parse_options({}).egress, parse_options({"egress": "none"}).egress) == (None, UNLIMITED)


@pytest.mark.parametrize("key", ["egress", "ingress"])
def test_a_limit_that_is_no_rate_is_refused(key: str) -> None:
    with pytest.raises(Refused, match=rf"option {key}='10 parsecs' is not a rate from 256kbit to 32gbit"):
        parse_options({key: "10 parsecs"})


def test_an_unknown_option_is_refused_with_those_that_are_known() -> None:
    known = "use mtu, masquerade, isolated, spoof, egress, ingress, overlay"
    with pytest.raises(Refused, match=f"option 'masquarade' is not known to dni: {known}"):
        parse_options({"masquarade": "false"})


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("parent", "d-OVERLAY"),
        ("encrypted", "WireGuard"),
        ("internal", "--internal"),
        ("com.docker.network.bridge.name", "--ipam-opt overlay=NAME"),
        ("com.docker.network.bridge.enable_icc", "two overlays"),
        ("com.docker.network.bridge.enable_ip_masquerade", "-o masquerade="),
        ("com.docker.network.bridge.host_binding_ipv4", "-p 127.0.0.1:8080:80"),
        ("com.docker.network.bridge.gateway_mode_ipv4", "--internal"),
    ],
)
def test_an_option_of_another_driver_is_refused_with_what_to_use_instead(key: str, instead: str) -> None:
    with pytest.raises(Refused, match=f"option '{key}' is not one of dni: .*{instead}"):
        parse_options({key: "x"})


@pytest.mark.parametrize(("given", "spoof"), [({}, False), ({"spoof": "allow"}, True), ({"spoof": "deny"}, False)])
def test_containers_may_spoof_where_the_network_says_so(given: dict[str, str], spoof: bool) -> None:  # noqa: FBT001
    assert parse_options(given).spoof is spoof


@pytest.mark.parametrize("prefix", ["eth", "net", "A", "a-b_c", "x" * 11])
def test_links_are_called_inside_as_on_dockers_own_bridges(prefix: str) -> None:
    assert parse_options({LINK_PREFIX_KEY: prefix}).link_prefix == prefix


@pytest.mark.parametrize("prefix", ["", "0eth", "x" * 12, "a b", "a/b", "é", "a.b"])
def test_what_no_link_can_be_called_is_refused(prefix: str) -> None:
    with pytest.raises(Refused, match=f"{LINK_PREFIX_KEY}={prefix!r} cannot begin the name of a link"):
        parse_options({LINK_PREFIX_KEY: prefix})


def test_an_overlay_is_named_by_its_name_or_refused() -> None:
    assert parse_options({"overlay": "dev"}).overlay == "dev"
    with pytest.raises(BadName, match="overlay name 'Dev' is not of the form"):
        parse_options({"overlay": "Dev"})


def test_options_that_dockerd_reads_itself_are_left_to_it() -> None:
    assert parse_options({"com.docker.network.advertise_addr_nmsgs": "3"}) == NetworkOptions()


def test_the_agent_says_of_a_network_that_it_makes_it() -> None:
    assert parse_options({"dni.made-by": "dni"}).is_agents
    assert not parse_options({}).is_agents
    with pytest.raises(Refused, match="leave it out"):
        parse_options({"dni.made-by": "me"})


def test_internal_is_told_beside_the_options() -> None:
    assert parse_options({}, internal=True).internal


@given(st.dictionaries(st.sampled_from(["mtu", "masquerade", "isolated", "egress", "x"]), st.text()))
def test_options_are_read_or_refused_never_half_understood(given_options: dict[str, str]) -> None:
    text = refusal(lambda: parse_options(given_options))
    assert text is None or any(key in text for key in given_options)
