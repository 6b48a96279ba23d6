# SPDX-License-Identifier: Apache-2.0
"""Which addresses a pool has to give, and what is said when there are none."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.addresses.allocation import (
    Span,
    Usage,
    check_explicit,
    container_span,
    exhausted,
    first_gap,
    host_span,
    spans,
    whole_spans,
)
from dni_driver.core.errors import Refused
from dni_driver.core.overlays import Network, gateway_of
from dni_driver.core.records import PoolRecord
from tests import strategies

HALF = IPv4Network("9.0.0.128/25")
SECOND_HALF = IPv4Network("9.0.7.128/25")
POOL = PoolRecord(id="dcos/v4", family=4, overlay="dcos")
PLAIN = PoolRecord(id="plain/172.30.0.0/24", family=4, subnet=IPv4Network("172.30.0.0/24"))


def span(first: str, last: str) -> Span:
    return Span(ip_address(first), ip_address(last))


def test_containers_get_all_of_a_half_but_network_gateway_and_broadcast() -> None:
    assert container_span(HALF) == span("9.0.0.130", "9.0.0.254")
    assert container_span(HALF).size == 125


def test_an_ipv6_half_has_no_broadcast_address_to_keep_free() -> None:
    half = IPv6Network("fd01:b::2:8000:0:0/81")
    assert container_span(half) == span("fd01:b::2:8000:0:2", "fd01:b::2:ffff:ffff:ffff")


def test_the_smallest_half_has_room_for_one_container() -> None:
    assert container_span(IPv4Network("10.0.0.4/30")) == span("10.0.0.6", "10.0.0.6")


def test_a_plain_subnets_gateway_may_be_any_of_its_hosts() -> None:
    assert host_span(IPv4Network("172.30.0.0/24")) == span("172.30.0.1", "172.30.0.254")


@given(strategies.subnets())
def test_a_half_offers_hosts_only_and_never_its_gateway(half: Network) -> None:
    offered = container_span(half)
    assert offered.first in half
    assert offered.last in half
    assert gateway_of(half) not in offered
    assert half.network_address not in offered
    assert half.version == 6 or half.broadcast_address not in offered
    assert offered.size == half.num_addresses - (3 if half.version == 4 else 2)


@given(strategies.spans(4), strategies.spans(6))
def test_a_span_holds_its_own_family_only(four: Span, six: Span) -> None:
    assert four.first in four
    assert four.last in four
    assert ip_address(int(four.last) + 1) not in four
    assert six.first not in four
    assert four.first not in six
    assert "9.0.0.130" not in four


def test_a_pool_offers_each_half_the_agent_holds() -> None:
    assert spans(POOL, [HALF, SECOND_HALF]) == [span("9.0.0.130", "9.0.0.254"), span("9.0.7.130", "9.0.7.254")]


def test_a_plain_pool_offers_its_subnet_whatever_halves_there_are() -> None:
    assert spans(PLAIN, [HALF]) == [span("172.30.0.1", "172.30.0.254")]


@pytest.mark.parametrize(
    ("ip_range", "offered"),
    [
        ("9.0.0.192/26", [span("9.0.0.192", "9.0.0.254")]),
        ("9.0.0.128/26", [span("9.0.0.130", "9.0.0.191")]),
        ("9.0.0.144/28", [span("9.0.0.144", "9.0.0.159")]),
        ("9.0.0.128/25", [span("9.0.0.130", "9.0.0.254")]),
        ("9.0.7.160/27", [span("9.0.7.160", "9.0.7.191")]),
        ("9.0.0.128/31", []),
        ("9.0.3.0/24", []),
    ],
)
def test_a_range_narrows_what_blank_requests_get(ip_range: str, offered: list[Span]) -> None:
    pool = PoolRecord(id="dcos/v4", family=4, overlay="dcos", ip_range=IPv4Network(ip_range))
    assert spans(pool, [HALF, SECOND_HALF]) == offered


@given(strategies.subnets(4, shortest=20, longest=28), st.data())
def test_a_range_offers_exactly_what_both_it_and_the_half_have(half: IPv4Network, data: st.DataObject) -> None:
    prefix = data.draw(st.integers(half.prefixlen, 32))
    step = data.draw(st.integers(0, (1 << (prefix - half.prefixlen)) - 1))
    ip_range = ip_network((int(half.network_address) + (step << (32 - prefix)), prefix))
    pool = PoolRecord(id="dcos/v4", family=4, overlay="dcos", ip_range=ip_range)
    offered = {number for found in spans(pool, [half]) for number in range(int(found.first), int(found.last) + 1)}
    whole = container_span(half)
    assert offered == {int(address) for address in ip_range if address in whole}


def test_what_may_be_asked_for_is_not_narrowed_by_the_range() -> None:
    pool = PoolRecord(id="dcos/v4", family=4, overlay="dcos", ip_range=IPv4Network("9.0.0.192/26"))
    assert whole_spans(pool, [HALF]) == [span("9.0.0.130", "9.0.0.254")]
    check_explicit(ip_address("9.0.0.130"), pool, [HALF])


@given(strategies.spans(largest=40), st.data())
def test_the_first_gap_is_the_lowest_address_that_is_not_taken(span: Span, data: st.DataObject) -> None:
    numbers = range(int(span.first), int(span.last) + 1)
    taken = data.draw(st.sets(st.sampled_from(numbers)))
    kind = type(span.first)
    found = first_gap(span.first, span.last, sorted(taken))
    free = [number for number in numbers if number not in taken]
    assert found == (kind(free[0]) if free else None)


@given(strategies.spans())
def test_addresses_taken_behind_the_last_one_do_not_matter(span: Span) -> None:
    assert first_gap(span.first, span.last, [int(span.last) + 1]) == span.first


def test_nothing_is_free_where_the_search_begins_behind_the_end() -> None:
    assert first_gap(ip_address("9.0.0.255"), ip_address("9.0.0.254"), []) is None


@pytest.mark.parametrize("address", ["9.0.0.130", "9.0.0.254", "9.0.7.200"])
def test_any_container_address_of_the_halves_may_be_asked_for(address: str) -> None:
    check_explicit(ip_address(address), POOL, [HALF, SECOND_HALF])


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("9.0.0.129", "is the gateway of 9.0.0.128/25"),
        ("9.0.0.128", "is the network or broadcast address of 9.0.0.128/25"),
        ("9.0.0.255", "is the network or broadcast address of 9.0.0.128/25"),
        ("9.0.0.5", "lies outside the Docker half of overlay 'dcos' on this agent"),
        ("fd00::1", "lies outside the Docker half of overlay 'dcos' on this agent"),
    ],
)
def test_an_address_that_no_container_can_have_is_refused_with_those_it_can(address: str, fault: str) -> None:
    choose = "choose one of 9.0.0.130 to 9.0.0.254 or 9.0.7.130 to 9.0.7.254"
    with pytest.raises(Refused, match=f"address {address} {fault}: {choose}"):
        check_explicit(ip_address(address), POOL, [HALF, SECOND_HALF])


def test_in_a_plain_pool_the_first_host_may_be_asked_for() -> None:
    check_explicit(ip_address("172.30.0.1"), PLAIN, [])
    with pytest.raises(Refused, match=r"is the network or broadcast address of 172.30.0.0/24"):
        check_explicit(ip_address("172.30.0.255"), PLAIN, [])
    with pytest.raises(Refused, match=r"lies outside plain pool 172.30.0.0/24"):
        check_explicit(ip_address("172.30.1.1"), PLAIN, [])


def test_exhaustion_says_overlay_agent_size_use_and_who_lists_the_holders() -> None:
    usage = Usage(size=125, used=120, reserved=5, free=0)
    text = str(exhausted(POOL, "192.0.2.10", usage))
    for part in ("'dcos'", "192.0.2.10", "120 of 125 used", "5 reserved", "`dni address ls --overlay dcos`"):
        assert part in text


def test_exhaustion_of_a_range_or_a_plain_pool_names_it() -> None:
    usage = Usage(size=2, used=2, reserved=0, free=0)
    ranged = PoolRecord(id="dcos/v4", family=4, overlay="dcos", ip_range=IPv4Network("9.0.0.144/31"))
    assert "within --ip-range 9.0.0.144/31" in str(exhausted(ranged, "192.0.2.10", usage))
    assert "plain pool 172.30.0.0/24" in str(exhausted(PLAIN, "192.0.2.10", usage))
