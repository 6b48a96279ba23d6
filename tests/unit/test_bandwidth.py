# SPDX-License-Identifier: Apache-2.0
"""Limits: how they are written, whose word holds, and the bucket they become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dni_driver.core.errors import Refused
from dni_driver.core.options.bandwidth import (
    FASTEST,
    SLOWEST,
    UNLIMITED,
    Limits,
    bucket,
    effective,
    parse_rate,
    write_limit,
    write_rate,
)
from tests.unit.refusals import refusal

_rates = st.integers(SLOWEST // 8, FASTEST // 8).map(lambda per_second: per_second * 8)


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("10mbit", 10_000_000),
        ("1.5gbit", 1_500_000_000),
        ("500kbit", 500_000),
        ("2000000", 2_000_000),
        ("2000000bit", 2_000_000),
        ("10MBit", 10_000_000),
        ("1mbps", 8_000_000),
        ("500kbps", 4_000_000),
        ("1mibit", 1_048_576),
        ("1mibps", 8_388_608),
        ("0.001tbit", 1_000_000_000),
        ("1.00001mbit", 1_000_008),
        ("none", UNLIMITED),
        ("None", UNLIMITED),
    ],
)
def test_a_rate_means_what_it_means_to_tc(text: str, bits: int) -> None:
    assert parse_rate("egress", text) == bits


@pytest.mark.parametrize(
    "text",
    ["", "0", "fast", "10", "10mbits", "10 mbit", "-10mbit", "+10mbit", "1e6bit", "10mb", ".5gbit", "1,5gbit", "10m",
     "255kbit", "33gbit", "1tbit", "\u0661\u0660mbit", "9" * 5000 + "bit", "inf", "nan", "10mbit\n", "null"],
)  # fmt: skip
def test_what_is_no_rate_is_refused_with_the_rates_there_are(text: str) -> None:
    with pytest.raises(
        Refused, match=r"option ingress=.* is not a rate from 256kbit to 32gbit: use .* as 10mbit, or none"
    ):
        parse_rate("ingress", text)


@given(st.text())
def test_a_rate_is_read_or_refused_never_half_understood(text: str) -> None:
    said = refusal(lambda: parse_rate("egress", text))
    assert said is None or (said.startswith("option egress=") and "\n" not in said)


@given(_rates)
def test_what_is_written_is_read_the_same(rate: int) -> None:
    assert parse_rate("egress", write_rate(rate)) == rate


@pytest.mark.parametrize(
    ("rate", "text"),
    [(10_000_000, "10mbit"), (1_500_000_000, "1.5gbit"), (256_000, "256kbit"), (1_000_008, "1000.008kbit")],
)
def test_a_rate_is_written_in_the_largest_unit_that_has_room_for_it(rate: int, text: str) -> None:
    assert write_rate(rate) == text
    assert write_limit(rate) == text


@pytest.mark.parametrize("limit", [None, UNLIMITED])
def test_no_limit_is_written_as_it_is_asked_for(limit: int | None) -> None:
    assert write_limit(limit) == "none"


@pytest.mark.parametrize(
    ("own", "general", "holds"),
    [
        (None, None, None),
        (None, 5_000_000, 5_000_000),
        (10_000_000, None, 10_000_000),
        (10_000_000, 5_000_000, 10_000_000),
        (UNLIMITED, 5_000_000, None),
        (None, UNLIMITED, None),
    ],
)
def test_an_endpoints_own_word_holds_before_its_networks(
    own: int | None, general: int | None, holds: int | None
) -> None:
    assert effective(own, general) == holds


def test_limits_tell_whether_there_are_any() -> None:
    assert not Limits()
    assert Limits(egress=SLOWEST)
    assert Limits(ingress=SLOWEST)


@given(rate=_rates, mtu=st.integers(552, 65535))
def test_a_bucket_holds_two_frames_and_a_hundredth_of_a_second_and_the_kernel_can_count_it(
    rate: int, mtu: int
) -> None:
    made = bucket(rate, mtu)
    assert made.rate == rate // 8 < 2**32
    assert made.burst >= max(2 * mtu, made.rate // 100)
    assert made.burst / made.rate < 2**32 / 1e9
    assert made.queue >= 2**16
    assert made.queue < 2**32


@pytest.mark.parametrize(("rate", "milliseconds"), [(10_000_000, 10), (1_000_000_000, 10)])
def test_a_burst_is_too_short_to_show_in_a_measurement(rate: int, milliseconds: int) -> None:
    made = bucket(rate, 1450)
    assert made.burst * 1000 == made.rate * milliseconds
