# SPDX-License-Identifier: Apache-2.0
"""How large a packet fits an overlay."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Address, IPv6Interface
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.errors import Refused
from dni_driver.core.mtu import LARGEST_BRIDGE_MTU, Underlay, first_mtu, misfits, outdated, overlay_mtu
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import FAMILIES, Family, Overlay
from dni_driver.core.records import NetworkRecord, Records
from tests.fakes import DUAL

DIRECT = msgspec.structs.replace(DUAL, backend="direct")


def eth0(mtu: int) -> Underlay:
    return Underlay(link="eth0", mtu=mtu)


def network(given: int | None = None, *, now: int = 1450, ipv6: bool = False) -> NetworkRecord:
    """Answer a network whose user gave an MTU, or none, and what it has now."""
    return NetworkRecord(
        id="n1",
        overlay="dual",
        options=NetworkOptions(mtu=given),
        mtu=given or now,
        gateway=IPv4Interface("10.64.0.129/25"),
        gateway6=IPv6Interface("fd01:b::8000:0:1/81") if ipv6 else None,
        name="web",
    )


def records(*networks: NetworkRecord) -> Records:
    return Records(overlays=[DUAL], agent_subnets=[], pools=[], addresses=[], networks=list(networks), endpoints=[])


@pytest.mark.parametrize(
    ("backend", "family", "mtu"),
    [("vxlan", 4, 1450), ("vxlan", 6, 1430), ("auto", 4, 1450), ("auto", 6, 1430), ("direct", 4, 1500)],
)
def test_encapsulation_takes_its_bytes_from_the_underlay(
    backend: Literal["vxlan", "direct", "auto"], family: Family, mtu: int
) -> None:
    assert overlay_mtu(1500, backend, family) == mtu


@given(st.integers(1280, 1 << 20), st.sampled_from(FAMILIES))
def test_an_encapsulated_packet_fits_the_underlay_and_the_bridge(underlay: int, family: Family) -> None:
    mtu = overlay_mtu(underlay, "vxlan", family)
    assert 0 < mtu < min(underlay, LARGEST_BRIDGE_MTU)


@pytest.mark.parametrize(
    ("given", "overlay", "underlay", "mtu"),
    [(None, DUAL, 1500, 1450), (None, DIRECT, 1500, 1500), (1300, DUAL, 1500, 1300), (1450, DUAL, 1500, 1450)],
)
def test_a_new_network_has_what_its_user_said_or_else_what_fits(
    given: int | None, overlay: Overlay, underlay: int, mtu: int
) -> None:
    assert first_mtu(network(given), overlay, eth0(underlay)) == mtu


@pytest.mark.parametrize(
    ("asked", "overlay", "text"),
    [
        (network(1500), DUAL, "mtu=1500 does not fit: eth0 has 1500, VXLAN takes 50: at most 1450"),
        (network(1501), DIRECT, "mtu=1501 does not fit: eth0 has 1500: at most 1500"),
        (network(1200, ipv6=True), DUAL, "mtu=1200 does not fit: IPv6 needs 1280 at the least"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_arithmetic(asked: NetworkRecord, overlay: Overlay, text: str) -> None:
    with pytest.raises(Refused, match=f"^{text}"):
        first_mtu(asked, overlay, eth0(1500))


def test_a_network_without_a_say_of_its_own_follows_the_underlay() -> None:
    assert outdated(records(network()), eth0(1500)) == {}
    assert outdated(records(network()), eth0(1400)) == {"n1": 1350}
    assert outdated(records(network()), eth0(9000)) == {"n1": 8950}


def test_what_the_user_gave_stands_and_is_told_where_it_no_longer_fits() -> None:
    asked = network(1450)
    assert outdated(records(asked), eth0(1400)) == {}
    assert list(misfits(records(asked), eth0(1500))) == []
    assert list(misfits(records(asked), eth0(1400))) == [
        (asked, "mtu=1450 does not fit: eth0 has 1400, VXLAN takes 50: at most 1350")
    ]


def test_ipv6_is_not_shrunk_below_what_it_needs() -> None:
    """A link below 1280 bytes loses its IPv6 addresses for good."""
    dual = network(ipv6=True)
    assert outdated(records(dual), eth0(1300)) == {"n1": 1280}
    ((_, told),) = misfits(records(dual), eth0(1300))
    assert told == "mtu=1280 does not fit: eth0 has 1300, VXLAN takes 50: at most 1250"
    with pytest.raises(Refused, match="mtu=1280 does not fit: eth0 has 1300"):
        first_mtu(dual, DUAL, eth0(1300))


def test_a_network_whose_overlay_is_not_known_is_left_alone() -> None:
    lost = msgspec.structs.replace(network(), overlay="gone")
    assert outdated(records(lost), eth0(1400)) == {}
    assert list(misfits(records(lost), eth0(1400))) == []


def test_over_ipv6_vxlan_takes_twenty_bytes_more() -> None:
    six = msgspec.structs.replace(eth0(1500), local=IPv6Address("fd00::1"))
    assert first_mtu(network(), DUAL, six) == 1430
    assert first_mtu(network(), DIRECT, six) == 1500
    assert outdated(records(network()), six) == {"n1": 1430}
    ((_, told),) = misfits(records(network(1450)), six)
    assert told == "mtu=1450 does not fit: eth0 has 1500, VXLAN takes 70: at most 1430"
