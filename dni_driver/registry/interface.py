# SPDX-License-Identifier: Apache-2.0
"""What every registry can do, and the rules they share."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Protocol

import msgspec

from dni_driver.core.errors import InUse, NotFound
from dni_driver.core.overlays import FAMILIES, AgentSubnet, Family, Overlay, check_no_overlap


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """An agent subnet and the agent that holds it. It lasts until it is given back."""

    agent_ip: IPv4Address
    held: AgentSubnet


class Registry(Protocol):
    """Each method is one transaction: done or not done, whatever dies meanwhile.

    Any method raises StoreError or Unavailable where the registry cannot be used.
    """

    def overlays(self) -> list[Overlay]:
        """Answer all overlays, by name."""

    def define(self, overlay: Overlay) -> None:
        """Record an overlay; once more is no error.

        Raises InUse where the name stands for something else, or another overlay has some of the addresses.
        """

    def widen(self, overlay: Overlay) -> None:
        """Give an overlay the family that it lacks; once more is no error.

        Raises NotFound for an unknown overlay, InUse where it is defined otherwise, or another overlay has some of
        the addresses.
        """

    def remove(self, name: str) -> None:
        """Forget an overlay and every lease on it; raise NotFound.

        The caller has made sure that nothing uses it.
        """

    def lease(self, overlay: str, family: Family, agent_ip: IPv4Address) -> AgentSubnet:
        """Give an agent one more agent subnet, the lowest that is free.

        Raises NotFound for an unknown overlay, Refused where it does not speak the family, Exhausted where all
        are held.
        """

    def confirm(self, held: AgentSubnet, agent_ip: IPv4Address, formerly: IPv4Address | None = None) -> None:
        """Record that an agent holds this very subnet, as its store says; once more is no error.

        `formerly` is the address under which the same agent held it before its own changed. Raises NotFound for
        an unknown overlay, Refused for a subnet that is none of its agent subnets, InUse, naming the holder,
        where another agent has it.
        """

    def leases(self, agent_ip: IPv4Address | None = None) -> list[Lease]:
        """Answer who holds what, of one agent or of all, in the order it was leased."""

    def give_back(self, held: AgentSubnet, agent_ip: IPv4Address) -> None:
        """End a lease; one that this agent does not hold is left alone."""

    def close(self) -> None:
        """Let go of files and connections."""


def is_defined(overlay: Overlay, known: Iterable[Overlay]) -> bool:
    """Tell whether an overlay is defined just so; raise InUse where its name or addresses are taken."""
    others = {other.name: other for other in known}
    same = others.pop(overlay.name, None)
    if same is None:
        check_no_overlap(overlay, others.values())
        return False
    if not agree(same, overlay):
        raise _otherwise(same)
    return True


def check_widening(overlay: Overlay, known: Iterable[Overlay]) -> None:
    """Raise NotFound or InUse unless an overlay is one that is known, with a family more, or none."""
    others = {other.name: other for other in known}
    same = others.pop(overlay.name, None)
    if same is None:
        raise unknown(overlay.name)
    if not includes(overlay, same) or same.backend != overlay.backend:
        raise _otherwise(same)
    check_no_overlap(overlay, others.values())


def _otherwise(same: Overlay) -> InUse:
    return InUse(
        f"overlay {same.name!r} exists already, with {describe(same)}: choose another name, or remove it "
        f"first (`dni overlay rm {same.name}`)"
    )


def agree(one: Overlay, other: Overlay) -> bool:
    """Tell whether two definitions mean the same."""
    return includes(one, other) and includes(other, one) and one.backend == other.backend


def includes(wide: Overlay, narrow: Overlay) -> bool:
    """Tell whether a definition has all the subnets of another, cut up in the same way."""
    return all(narrow.space(family) in (None, wide.space(family)) for family in FAMILIES)


def describe(overlay: Overlay) -> str:
    """Say what an overlay is made of: `9.0.0.0/8 in agent subnets of /24, backend vxlan`."""
    spaces = (space for family in FAMILIES if (space := overlay.space(family)))
    parts = [f"{subnet} in agent subnets of /{prefix}" for subnet, prefix in spaces]
    return f"{' and '.join(parts)}, backend {overlay.backend}"


def unknown(name: str) -> NotFound:
    """Build the error of an overlay that the registry does not have."""
    return NotFound(f"there is no overlay {name!r} in the registry: `dni overlay ls` lists them")
