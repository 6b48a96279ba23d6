# SPDX-License-Identifier: Apache-2.0
"""MAC addresses of containers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.errors import Refused
from dni_driver.core.mac import mac_for, parse_mac


def test_a_mac_follows_from_the_ip_address() -> None:
    assert mac_for(ip_address("9.0.0.130")) == "02:42:09:00:00:82"


@given(st.ip_addresses())
def test_the_mac_is_locally_administered_unicast(address: IPv4Address | IPv6Address) -> None:
    first = int(mac_for(address)[:2], 16)
    assert first & 0b10
    assert not first & 0b1


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_two_ipv4_addresses_never_have_one_mac(one: IPv4Address, other: IPv4Address) -> None:
    assert (mac_for(one) == mac_for(other)) == (one == other)


def test_ipv6_addresses_that_differ_at_either_end_have_macs_of_their_own() -> None:
    addresses = ("fd01:b::8000:0:2", "fd01:b::8000:0:3", "fd01:b::8001:0:2", "fd01:b::2:8000:0:2", "::2")
    macs = {mac_for(ip_address(address)) for address in addresses}
    assert len(macs) == len(addresses)


@given(st.ip_addresses(v=6), st.integers(0, (1 << 32) - 1))
def test_two_ipv6_addresses_of_one_half_never_have_one_mac(one: IPv6Address, low: int) -> None:
    other = IPv6Address(int(one) >> 32 << 32 | low)
    assert (mac_for(one) == mac_for(other)) == (one == other)


@given(st.ip_addresses())
def test_what_dni_makes_it_also_reads(address: IPv4Address | IPv6Address) -> None:
    assert parse_mac(mac_for(address)) == mac_for(address)


@pytest.mark.parametrize("text", ["02:42:AC:11:00:02", "02-42-ac-11-00-02", "0242.ac11.0002"])
def test_a_mac_is_read_in_any_usual_form(text: str) -> None:
    assert parse_mac(text) == "02:42:ac:11:00:02"


@pytest.mark.parametrize("text", ["", "02:42", "nonsense", "02:42:ac:11:00:02:03", "zz:42:ac:11:00:02"])
def test_what_is_no_mac_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Refused, match="write six pairs such as 02:42:09:00:00:82"):
        parse_mac(text)


def test_a_multicast_mac_is_refused() -> None:
    with pytest.raises(Refused, match="multicast"):
        parse_mac("01:00:5e:00:00:01")
