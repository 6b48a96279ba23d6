# SPDX-License-Identifier: Apache-2.0
"""The addresses of VTEPs."""

from __future__ import annotations

from ipaddress import IPv4Interface

import pytest

from dni_driver.core.peers import Vtep


@pytest.mark.parametrize(
    ("address", "mac"),
    [("44.128.0.1", "70:b3:d5:80:00:01"), ("44.128.1.0", "70:b3:d5:80:01:00"), ("198.15.0.1", "70:b3:d5:0f:00:01")],
)
def test_the_mac_is_dcos_prefix_and_the_low_bits_of_the_address(address: str, mac: str) -> None:
    assert Vtep(IPv4Interface(f"{address}/20")).mac == mac


def test_the_ipv6_address_has_the_place_of_the_ipv4_one() -> None:
    assert str(Vtep(IPv4Interface("44.128.0.2/20")).ip6) == "fd01:a::2/64"
