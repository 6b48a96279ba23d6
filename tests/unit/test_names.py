# SPDX-License-Identifier: Apache-2.0
"""Which names an overlay may have, and the device names made from them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.errors import BadName, Refused
from dni_driver.core.names import (
    RESERVED,
    check_container_name,
    check_overlay_name,
    container_link,
    docker_bridge,
    host_link,
    mesos_bridge,
)
from tests.strategies import overlay_names
from tests.unit.refusals import refusal

LONGEST_DEVICE_NAME = 15

endpoint_ids = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(overlay_names)
def test_a_name_of_the_rule_is_taken_as_it_is(name: str) -> None:
    assert check_overlay_name(name) == name


@pytest.mark.parametrize("name", ["a", "dcos", "0", "9-lives", "a_b-c", "x" * 13])
def test_these_are_names(name: str) -> None:
    assert check_overlay_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "needs a name: 1 to 13"),
        ("x" * 14, "has 14 characters, at most 13 are allowed.*15 for a device"),
        ("a.b", "has a dot: Mesos cannot inspect"),
        ("-a", "beginning with a letter or digit"),
        ("_a", "beginning with a letter or digit"),
        ("Dcos", "use lower-case letters"),
        ("a b", "use lower-case letters"),
        ("a/b", "use lower-case letters"),
        ("a\n", "use lower-case letters"),
        ("é", "use lower-case letters"),
        ("٣", "use lower-case letters"),
    ],
)
def test_a_refusal_names_the_rule_and_the_reason(name: str, reason: str) -> None:
    with pytest.raises(BadName, match=reason):
        check_overlay_name(name)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_dockers_own_network_names_are_reserved(name: str) -> None:
    with pytest.raises(BadName, match="is reserved"):
        check_overlay_name(name)


@given(st.text())
def test_every_name_is_taken_or_refused_in_one_line(name: str) -> None:
    text = refusal(lambda: check_overlay_name(name))
    lawful = re.fullmatch("[a-z0-9][a-z0-9_-]{0,12}", name) and name not in RESERVED
    assert (text is None) == bool(lawful)
    assert text is None or "\n" not in text


@given(overlay_names)
def test_bridge_names_fit_a_device_and_differ(name: str) -> None:
    bridges = (docker_bridge(name), mesos_bridge(name))
    assert bridges == (f"d-{name}", f"m-{name}")
    assert all(len(bridge) <= LONGEST_DEVICE_NAME for bridge in bridges)


@given(endpoint_ids)
def test_link_names_fit_a_device_and_follow_from_the_endpoint_id(endpoint: str) -> None:
    assert host_link(endpoint) == f"dni{endpoint[:11]}"
    assert container_link(endpoint) != host_link(endpoint)
    assert max(len(host_link(endpoint)), len(container_link(endpoint))) <= LONGEST_DEVICE_NAME


@given(overlay_names, endpoint_ids)
def test_no_bridge_is_called_like_a_link(name: str, endpoint: str) -> None:
    assert not {docker_bridge(name), mesos_bridge(name)} & {host_link(endpoint), container_link(endpoint)}


@pytest.mark.parametrize("name", ["web", "Web_2.old-1", "0a"])
def test_a_container_is_called_as_docker_allows(name: str) -> None:
    assert check_container_name(name) == name


@pytest.mark.parametrize("name", ["", "w", "-web", "we b", "wéb", "/web"])
def test_what_docker_would_not_call_a_container_is_refused_with_its_rule(name: str) -> None:
    with pytest.raises(Refused, match="is no container name: use letters, digits"):
        check_container_name(name)
