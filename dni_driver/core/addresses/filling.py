# SPDX-License-Identifier: Apache-2.0
"""Halves that fill up: how far, and when somebody should be told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from dni_driver.core.addresses.fullness import HALVES, Half, HalfUsage, Local, subnet_usage

LEVELS = (80, 95)
"""In percent: where a half that fills up is told of."""
SLACK = 5
"""By how many percent a half must have emptied again before it is told of once more."""


class _OneHalf(msgspec.Struct, frozen=True, kw_only=True):
    """One half of an overlay, all agent subnets of this host together, in addresses that containers can have."""

    overlay: str
    half: Half
    family: int
    size: int
    used: int
    reserved: int


class Load(_OneHalf, frozen=True, kw_only=True):
    """How much of a half is taken."""

    @property
    def free(self) -> int:
        """Count what is left."""
        return self.size - self.used - self.reserved

    @property
    def percent(self) -> int:
        """Answer how much cannot be handed out any more, rounded down."""
        return 100 * (self.size - self.free) // self.size if self.size else 0


class HalfReport(_OneHalf, frozen=True, kw_only=True):
    """The same for people: `percent` as of a load, and which of LEVELS that is, None below the first."""

    free: int
    percent: int
    level: int | None


def half_report(load: Load) -> HalfReport:
    """Report a load."""
    level = max((level for level in LEVELS if load.percent >= level), default=None)
    return HalfReport(**msgspec.structs.asdict(load), free=load.free, percent=load.percent, level=level)


def loads(local: Local) -> list[Load]:
    """Answer the load of every half that this host holds, but for what cannot be counted."""
    found: dict[tuple[str, Half, int], list[HalfUsage]] = {}
    for held in local.records.agent_subnets:
        usage = subnet_usage(held, local)
        for half in HALVES:
            if usage.of(half).why is None:
                found.setdefault((held.overlay, half, held.family), []).append(usage.of(half))
    return [_load(overlay, half, family, of) for (overlay, half, family), of in found.items()]


def _load(overlay: str, half: Half, family: int, of: Sequence[HalfUsage]) -> Load:
    return Load(
        overlay=overlay,
        half=half,
        family=family,
        size=sum(one.size for one in of),
        used=sum(one.used or 0 for one in of),
        reserved=sum(one.reserved or 0 for one in of),
    )


class Alarms:
    """Which level each half has reached; a level stays reached until the load is well below it."""

    def __init__(self) -> None:
        """Have seen nothing yet."""
        self._reached: dict[tuple[str, Half, int], int] = {}

    def look(self, seen: Iterable[Load]) -> list[tuple[Load, int]]:
        """Take the loads of now; answer those that have just reached a level, with that level."""
        reached: dict[tuple[str, Half, int], int] = {}
        crossed = []
        for load in seen:
            key = (load.overlay, load.half, load.family)
            before = self._reached.get(key, 0)
            reached[key] = max([level for level in LEVELS if _is_at(load, level, before)], default=0)
            if reached[key] > before:
                crossed.append((load, reached[key]))
        self._reached = reached
        return crossed

    def problems(self) -> list[str]:
        """Say which halves are at the highest level; the text stays the same for as long as they are."""
        return [
            f"the {half.capitalize()} half of overlay {overlay!r} on this host is {LEVELS[-1]} % full or more "
            f"(IPv{family}): `dni overlay usage {overlay}` shows by how much"
            for (overlay, half, family), level in self._reached.items()
            if level == LEVELS[-1]
        ]


def _is_at(load: Load, level: int, before: int) -> bool:
    return load.percent >= (level - SLACK if before >= level else level)
