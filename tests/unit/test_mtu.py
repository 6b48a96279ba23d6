# SPDX-License-Identifier: Apache-2.0
"""How large a packet fits an overlay."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.errors import Refused
from dni_driver.core.mtu import LARGEST_BRIDGE_MTU, check_mtu, overlay_mtu


@pytest.mark.parametrize(
    ("backend", "family", "mtu"),
    [("vxlan", 4, 1450), ("vxlan", 6, 1430), ("auto", 4, 1450), ("auto", 6, 1430), ("direct", 4, 1500)],
)
def test_encapsulation_takes_its_bytes_from_the_underlay(
    backend: Literal["vxlan", "direct", "auto"], family: int, mtu: int
) -> None:
    assert overlay_mtu(1500, backend, family) == mtu


@given(st.integers(1280, 1 << 20), st.sampled_from([4, 6]))
def test_an_encapsulated_packet_fits_the_underlay_and_the_bridge(underlay: int, family: int) -> None:
    mtu = overlay_mtu(underlay, "vxlan", family)
    assert 0 < mtu < min(underlay, LARGEST_BRIDGE_MTU)


def test_ipv6_needs_1280_bytes_and_ipv4_does_not() -> None:
    check_mtu(1280, speaks_ipv6=True)
    check_mtu(1279, speaks_ipv6=False)
    with pytest.raises(Refused, match=r"mtu=1279 does not fit: IPv6 needs 1280 at the least.*leave --ipv6 out"):
        check_mtu(1279, speaks_ipv6=True)
