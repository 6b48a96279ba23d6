# SPDX-License-Identifier: Apache-2.0
"""How many bits a second a container may send and be sent: read, written, and as the bucket that sees to it.

A rate counts whole Ethernet frames, so TCP in 1450-byte packets carries 95 % of it.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import product

import msgspec

from dni_driver.core.errors import Refused

UNLIMITED = 0
"""The rate that `none` stands for."""

SLOWEST = 256_000
"""Bits a second. Slower, and two frames of the largest MTU take longer than the kernel can count: 4.29 s."""
FASTEST = 32_000_000_000
"""Bits a second: the most that 32 bits of bytes a second hold, rounded."""

_PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12} | {
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_UNITS = {prefix + unit: size * bits for (prefix, size), (unit, bits) in product(
    _PREFIXES.items(), {"bit": 1, "bps": 8}.items()
)}  # fmt: skip
"""Bits a second, under the names that tc-units(7) has: `bps` are bytes."""

_RATE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)([a-z]*)", re.ASCII)

_FRAME_OVERHEAD = 18
"""Bytes around a packet: an Ethernet header with a VLAN tag."""
_BURST_SECONDS = Fraction(1, 100)
"""A timer that comes this late loses nothing; more would show in a measurement of a second."""
_QUEUE_SECONDS = Fraction(1, 20)
_LARGEST_PACKET = 1 << 16
"""What a sender hands over at once, to be cut into frames: it must fit a queue as a whole."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one endpoint, each in bits a second, None where there is none.

    `egress` is for what the container sends, `ingress` for what is sent to it.
    """

    egress: int | None = None
    ingress: int | None = None

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return self != Limits()


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A token bucket: `rate` in bytes a second, `burst` and `queue` in bytes: what may pass at once, and wait."""

    rate: int
    burst: int
    queue: int


def parse_rate(key: str, text: str) -> int:
    """Read `egress=10mbit` as bits a second, UNLIMITED for `none`; raise Refused with the forms there are."""
    if text.lower() == "none":
        return UNLIMITED
    found = _RATE.fullmatch(text.lower())
    unit = _UNITS.get(found[2] or "bit") if found else None
    if found and unit:
        rate = int(Fraction(found[1]) * unit) // 8 * 8
        if SLOWEST <= rate <= FASTEST:
            return rate
    raise Refused(
        f"option {key}={text[:40]!r} is not a rate from {write_rate(SLOWEST)} to {write_rate(FASTEST)}: use a number "
        f"with kbit, mbit or gbit (bits a second) or kbps, mbps or gbps (bytes a second), as 10mbit, or none"
    )


def write_rate(rate: int) -> str:
    """Write bits a second as `parse_rate` reads them, in the largest unit that has three places for them."""
    for unit in ("gbit", "mbit", "kbit"):
        size = _UNITS[unit]
        if rate >= size and rate % (size // 1000) == 0:
            return f"{rate / size:.3f}".rstrip("0").rstrip(".") + unit
    return f"{rate}bit"


def write_limit(rate: int | None) -> str:
    """Write a limit as people give it: a rate, or `none`."""
    return write_rate(rate) if rate else "none"


def effective(own: int | None, general: int | None) -> int | None:
    """Answer the limit that holds, None for none: an endpoint's own word, where it has one, before its network's."""
    return (general if own is None else own) or None


def bucket(rate: int, mtu: int) -> Bucket:
    """Work out the bucket that holds frames of an MTU to a rate in bits a second.

    It holds two frames at least, or it would lose whatever it cannot send in time.
    """
    per_second = rate // 8
    return Bucket(
        rate=per_second,
        burst=max(int(per_second * _BURST_SECONDS), 2 * (mtu + _FRAME_OVERHEAD)),
        queue=max(int(per_second * _QUEUE_SECONDS), _LARGEST_PACKET),
    )
