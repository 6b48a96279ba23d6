# SPDX-License-Identifier: Apache-2.0
"""What an agent tells others of how full it is, and what is wrong with it, and how that is written down."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dni_driver.core.overlays import Address, AgentSubnet
from dni_driver.core.problems import InShort

VERSION = 1


class HalfCounts(msgspec.Struct, frozen=True, array_like=True):
    """Addresses that containers can have of one half."""

    size: int
    used: int
    reserved: int
    free: int

    def __post_init__(self) -> None:
        """Raise ValueError where they are no counts of one half."""
        if min(self.used, self.reserved, self.free) < 0 or self.used + self.reserved + self.free != self.size:
            raise ValueError(f"{self.used}, {self.reserved} and {self.free} are not {self.size} together")


class SubnetCounts(msgspec.Struct, frozen=True, kw_only=True):
    """An agent subnet, held `since`, in seconds since 1970; a text says why a half could not be counted."""

    overlay: str
    subnet: str
    since: float | None
    mesos: HalfCounts | str
    docker: HalfCounts | str


class Counts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All agent subnets of one agent, and its problems, as of `as_of`, in seconds since 1970.

    `problems` of None: an older dni has told, which says nothing of them.
    """

    as_of: float
    subnets: tuple[SubnetCounts, ...] = ()
    problems: InShort | None = None

    def agrees(self, other: Counts) -> bool:
        """Tell whether both say the same, whenever that was so."""
        return (self.subnets, self.problems) == (other.subnets, other.problems)

    def of(self, held: AgentSubnet) -> SubnetCounts | None:
        """Answer what was counted of one agent subnet."""
        found = (one for one in self.subnets if (one.overlay, one.subnet) == (held.overlay, str(held.subnet)))
        return next(found, None)


Told = Counts | str
"""What an agent told last, or in words why that cannot be read."""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What agents told, of those that told anything; `problem` says why there may be something newer."""

    told: Mapping[Address, Told] = {}
    problem: str | None = None

    def of(self, agent: Address) -> Told:
        """Answer what an agent told, or in words why that is not known."""
        told = self.told.get(agent)
        if told is not None:
            return told if isinstance(told, Counts) else f"what agent {agent} told {told}: {_ASK}"
        if self.problem is not None:
            return f"it is not known how full agent {agent} is; {self.problem}"
        return f"agent {agent} has not told yet how full it is: {_ASK}"


_ASK = "ask there (dni overlay usage)"


class _Version(msgspec.Struct):
    version: int


class _Written(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    counts: Counts


def write(counts: Counts) -> bytes:
    """Write what an agent tells, as registries keep it."""
    return msgspec.json.encode(_Written(version=VERSION, counts=counts))


def read(data: bytes) -> Told:
    """Read what was written by any dni, or by somebody else."""
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version > VERSION:
            return f"was written by a newer dni (version {version})"
        return msgspec.json.decode(data, type=_Written).counts
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"is not understood ({error})"


def is_told(counts: Counts, data: bytes) -> bool:
    """Tell whether what is kept says just so, whenever it was counted."""
    told = read(data)
    return isinstance(told, Counts) and told.agrees(counts)
