# SPDX-License-Identifier: Apache-2.0
"""Which ports a container gets: what it asks for, what will do, and what is in the way."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.errors import MalformedRequest, Refused
from dni_driver.core.overlays import Address
from dni_driver.core.ports import (
    ANY,
    Binding,
    HostPort,
    PortRecord,
    Protocol,
    are_shared,
    binding,
    candidates,
    host_addresses,
    in_order,
    served,
)

FOUR, SIX = IPv4Address("9.0.0.130"), IPv6Address("fd01:b::2")
DYNAMIC = range(32768, 32772)
WEB, DB = "1" * 64, "2" * 64


def at(text: str, port: int, protocol: Protocol = Protocol.TCP) -> HostPort:
    return HostPort(protocol, ip_address(text), port)


def record(text: str, port: int, inside: int = 80, endpoint: str = WEB) -> PortRecord:
    return PortRecord(at=at(text, port), endpoint=endpoint, port=inside)


ALL = frozenset(Protocol)
BOTH = [ANY[4], ANY[6]]


def wish(first: int = 0, last: int = 0, inside: int = 80, host: str | None = None) -> Binding:
    return binding(6, inside, ip_address(host) if host else None, first, last)


# -- what is asked for


def test_a_port_a_range_and_any_port_are_read() -> None:
    assert binding(6, 80, None, 8080, 8080) == Binding(protocol=Protocol.TCP, port=80, first=8080, last=8080)
    assert binding(17, 53, None, 5300, 5310).leeway == 11
    assert binding(132, 5000, FOUR, 0, 0).leeway == 65535


def test_a_port_without_an_end_is_a_single_one() -> None:
    """Some engines leave HostPortEnd at 0."""
    assert binding(6, 80, None, 8080, 0) == binding(6, 80, None, 8080, 8080)


@pytest.mark.parametrize(
    ("port", "first", "last"), [(0, 1, 1), (65536, 1, 1), (80, -1, 0), (80, 70000, 70000), (80, 0, 9), (-1, 0, 0)]
)
def test_numbers_that_are_no_ports_are_malformed(port: int, first: int, last: int) -> None:
    with pytest.raises(MalformedRequest, match="1 to 65535"):
        binding(6, port, None, first, last)


def test_a_protocol_without_ports_is_refused_with_those_that_have_some() -> None:
    with pytest.raises(Refused, match=r"protocol 33 .* tcp \(6\), udp \(17\) or sctp \(132\)"):
        binding(33, 80, None, 0, 0)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (wish(8080, 8080), "-p 8080:80/tcp"),
        (wish(8000, 8010), "-p 8000-8010:80/tcp"),
        (wish(), "-p 80/tcp"),
        (wish(8080, 8080, host="192.0.2.1"), "-p 192.0.2.1:8080:80/tcp"),
        (wish(host="fd00::1"), "-p [fd00::1]::80/tcp"),
    ],
)
def test_a_wish_is_shown_as_a_user_types_it(given: Binding, text: str) -> None:
    assert str(given) == text


def test_a_port_of_the_host_is_shown_as_docker_shows_it() -> None:
    assert str(at("0.0.0.0", 8080)) == "0.0.0.0:8080/tcp"
    assert str(at("::", 53, Protocol.UDP)) == "[::]:53/udp"


def test_those_who_can_have_one_port_alone_come_first_and_each_once() -> None:
    fixed, ranged, anything = wish(8080, 8080), wish(8000, 8010), wish()
    assert in_order([anything, ranged, fixed, anything, fixed]) == [fixed, ranged, anything, anything]


# -- where on the host


def test_without_an_address_a_port_is_had_in_each_family_that_gets_to_the_container() -> None:
    assert host_addresses(wish(8080, 8080), [FOUR], ALL) == [ANY[4], ANY[6]], "IPv6 is carried to it"
    assert host_addresses(wish(8080, 8080), [FOUR], frozenset()) == [ANY[4]]
    assert host_addresses(wish(8080, 8080), [FOUR, SIX], ALL) == [ANY[4], ANY[6]]
    assert host_addresses(wish(8080, 8080), [FOUR, SIX], frozenset()) == [ANY[4], ANY[6]]
    assert host_addresses(wish(8080, 8080), [SIX], ALL) == [ANY[6]]


@pytest.mark.parametrize("own", [[FOUR], [FOUR, SIX]])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.1", "::1", "fd00::1"])
def test_an_address_says_which_family_is_meant(host: str, own: list[Address]) -> None:
    assert host_addresses(wish(8080, 8080, host=host), own, ALL) == [ip_address(host)]


def test_ipv4_does_not_get_to_a_container_that_does_not_speak_it() -> None:
    with pytest.raises(Refused, match="the container has no IPv4 address"):
        host_addresses(wish(8080, 8080, host="192.0.2.1"), [SIX], ALL)


@pytest.mark.parametrize(("host", "own"), [("::", FOUR), ("fd00::1", FOUR), ("::1", FOUR), ("::1", SIX)])
def test_what_nothing_can_be_carried_from_is_refused_with_what_it_takes(host: str, own: Address) -> None:
    """No IPv6 on the host, or no sockets of SCTP."""
    with pytest.raises(Refused, match="to carry tcp to it takes a host with IPv6; leave "):
        host_addresses(wish(8080, 8080, host=host), [own], frozenset({Protocol.UDP}))
    sctp = binding(132, 80, ip_address(host), 5000, 5000)
    with pytest.raises(Refused, match=r"a host with IPv6 and sockets of SCTP \(`modprobe sctp`\)"):
        host_addresses(sctp, [own], frozenset({Protocol.TCP, Protocol.UDP}))


# -- which port


def test_a_range_is_tried_from_its_first_port_on() -> None:
    assert list(candidates(wish(8000, 8002), DYNAMIC, 8001)) == [8000, 8001, 8002]


def test_any_port_is_the_next_behind_the_last_one_given_and_round_again() -> None:
    assert list(candidates(wish(), DYNAMIC, None)) == [32768, 32769, 32770, 32771]
    assert list(candidates(wish(), DYNAMIC, 32769)) == [32770, 32771, 32768, 32769]
    assert list(candidates(wish(), DYNAMIC, 32771)) == [32768, 32769, 32770, 32771]
    assert list(islice(candidates(wish(), DYNAMIC, 80), 1)) == [32768], "another range than then"


# -- a repeat


def test_what_is_there_serves_the_same_wish_again() -> None:
    both = [record("0.0.0.0", 32769), record("::", 32769)]
    assert served([(wish(), BOTH)], both, DYNAMIC) == {0: both}
    assert served([(wish(32000, 33000), BOTH)], both, DYNAMIC) == {0: both}
    assert served([(wish(32769, 32769), BOTH)], both, DYNAMIC) == {0: both}


def test_what_leads_elsewhere_or_is_not_whole_serves_nobody() -> None:
    half = [record("0.0.0.0", 32769)]
    assert served([(wish(), BOTH)], half, DYNAMIC) == {}
    assert served([(wish(inside=81), [ANY[4]])], half, DYNAMIC) == {}
    assert served([(wish(8080, 8080), [ANY[4]])], half, DYNAMIC) == {}


def test_a_record_serves_one_wish() -> None:
    one = [record("0.0.0.0", 32769)]
    assert served([(wish(), [ANY[4]]), (wish(), [ANY[4]])], one, DYNAMIC) == {0: one}


# -- what is in the way


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (at("0.0.0.0", 80), at("0.0.0.0", 80), True),
        (at("0.0.0.0", 80), at("192.0.2.1", 80), True),
        (at("192.0.2.1", 80), at("192.0.2.2", 80), False),
        (at("0.0.0.0", 80), at("::", 80), False),
        (at("::", 80), at("fd00::1", 80), True),
        (at("0.0.0.0", 80), at("0.0.0.0", 81), False),
        (at("0.0.0.0", 80), at("0.0.0.0", 80, Protocol.UDP), False),
    ],
)
def test_ports_overlap_where_a_packet_could_be_for_both(one: HostPort, other: HostPort, overlap: bool) -> None:  # noqa: FBT001
    assert one.overlaps(other) == other.overlaps(one) == overlap


def test_two_endpoints_of_a_container_share_a_port_that_leads_to_one_port_of_it() -> None:
    assert are_shared(record("0.0.0.0", 80), record("0.0.0.0", 80, endpoint=DB))
    assert not are_shared(record("0.0.0.0", 80), record("0.0.0.0", 80, inside=81, endpoint=DB))
    assert not are_shared(record("0.0.0.0", 80), record("192.0.2.1", 80, endpoint=DB))


ADDRESSES = st.sampled_from([ANY[4], ANY[6], IPv4Address("192.0.2.1"), IPv6Address("fd00::1")])
PLACES = st.builds(HostPort, st.sampled_from(Protocol), ADDRESSES, st.integers(1, 3))


@given(PLACES, PLACES)
def test_overlapping_is_mutual(one: HostPort, other: HostPort) -> None:
    assert one.overlaps(other) == other.overlaps(one)
    assert one.overlaps(one)


@given(st.integers(0, 70000) | st.none())
def test_every_port_is_tried_once_wherever_one_begins(last: int | None) -> None:
    assert sorted(candidates(wish(), DYNAMIC, last)) == list(DYNAMIC)
