# SPDX-License-Identifier: Apache-2.0
"""What the map of an agent subnet shows."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import click

from tests.demo.address_map import draw


def test_both_halves_are_drawn_with_a_mark_for_each_address() -> None:
    lines = [click.unstyle(line) for line in draw(IPv4Network("9.0.2.128/25"), [IPv4Address("9.0.2.130")])]
    rows = [line.split() for line in lines if "9.0.2." in line]

    assert [row[-2] for row in rows] == ["9.0.2.0", "9.0.2.64", "9.0.2.128", "9.0.2.192"]
    assert [row[-1] for row in rows] == ["-G" + "." * 62, "." * 63 + "-", "-G#" + "." * 61, "." * 63 + "-"]


def test_a_half_smaller_than_a_row_is_one_short_row() -> None:
    lines = [click.unstyle(line) for line in draw(IPv4Network("10.0.0.4/30"), [])]

    assert [line.split()[-1] for line in lines[:2]] == ["-G.-", "-G.-"]
