# SPDX-License-Identifier: Apache-2.0
"""Netlink attributes, packed and read; no socket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dni_driver.kernel.netlink import as_number, as_text, nest, number, octet, raw, text, unpack

KINDS = st.integers(1, 0x3FFF)


@given(st.dictionaries(KINDS, st.binary(max_size=40)))
def test_what_is_packed_can_be_read(attributes: dict[int, bytes]) -> None:
    assert unpack(b"".join(raw(kind, value) for kind, value in attributes.items())) == attributes


@given(st.binary(max_size=200), st.integers(0, 220))
def test_rubbish_is_read_to_its_end(data: bytes, offset: int) -> None:
    unpack(data, offset)


def test_attributes_are_aligned_and_ended_as_the_kernel_wants_them() -> None:
    assert raw(1, b"abcde") == b"\x09\x00\x01\x00abcde\x00\x00\x00"
    assert text(3, "d-x") == b"\x08\x00\x03\x00d-x\x00"


def test_numbers_and_names_come_back() -> None:
    found = unpack(nest(18, text(1, "veth")) + number(4, 1450) + octet(5, 1))
    assert as_text(unpack(found[18]), 1) == "veth"
    assert as_number(found, 4) == 1450
    assert as_number(found, 5) == 1
    assert as_number(found, 6, default=7) == 7
    assert as_text(found, 9) == ""
