# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for what dni deals with: names, subnets, overlays, spans."""

from __future__ import annotations

import string
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import strategies as st

from dni_driver.core.addresses.allocation import Span
from dni_driver.core.names import RESERVED
from dni_driver.core.overlays import LONGEST_PREFIX, AgentSubnet, Family, Network, Overlay, family_of

BITS: dict[Family, int] = {4: 32, 6: 128}

_FIRST = string.ascii_lowercase + string.digits
_REST = _FIRST + "-_"

families: st.SearchStrategy[Family] = st.sampled_from((4, 6))

overlay_names: st.SearchStrategy[str] = st.builds(
    lambda first, rest: first + rest, st.sampled_from(_FIRST), st.text(_REST, max_size=12)
).filter(lambda name: name not in RESERVED)


def subnet(family: Family, prefix: int, number: int) -> Network:
    """Answer the subnet of `prefix` bits whose first bits are `number`."""
    start = number << (BITS[family] - prefix)
    return IPv4Network((start, prefix)) if family == 4 else IPv6Network((start, prefix))


@st.composite
def subnets(draw: st.DrawFn, family: Family | None = None, shortest: int = 8, longest: int | None = None) -> Network:
    """Draw a subnet whose prefix has `shortest` to `longest` bits (the longest an agent subnet can have)."""
    chosen = draw(families) if family is None else family
    prefix = draw(st.integers(shortest, LONGEST_PREFIX[chosen] if longest is None else longest))
    return subnet(chosen, prefix, draw(st.integers(0, (1 << prefix) - 1)))


agent_subnets: st.SearchStrategy[AgentSubnet] = st.builds(AgentSubnet, overlay=overlay_names, subnet=subnets())


@st.composite
def overlays(draw: st.DrawFn) -> Overlay:
    """Draw an overlay of one or both families."""
    both: tuple[tuple[Family, ...], ...] = ((4,), (6,), (4, 6))
    chosen = draw(st.sampled_from(both))
    spaces: dict[int, tuple[Network, int]] = {}
    for family in chosen:
        whole = draw(subnets(family))
        spaces[family] = (whole, draw(st.integers(whole.prefixlen, LONGEST_PREFIX[family_of(whole)])))
    whole4, whole6 = (spaces.get(family, (None, None)) for family in (4, 6))
    return Overlay(
        name=draw(overlay_names),
        subnet=whole4[0] if isinstance(whole4[0], IPv4Network) else None,
        prefix=whole4[1],
        subnet6=whole6[0] if isinstance(whole6[0], IPv6Network) else None,
        prefix6=whole6[1],
    )


@st.composite
def spans(draw: st.DrawFn, family: Family | None = None, largest: int = 12) -> Span:
    """Draw a run of 1 to `largest` addresses."""
    chosen = draw(families) if family is None else family
    size = draw(st.integers(1, largest))
    first = draw(st.integers(1, (1 << BITS[chosen]) - largest - 1))
    kind = IPv4Address if chosen == 4 else IPv6Address
    return Span(kind(first), kind(first + size - 1))
