# SPDX-License-Identifier: Apache-2.0
"""What people are shown of the agents of a cluster."""

from __future__ import annotations

import msgspec


class HeldReport(msgspec.Struct, frozen=True, kw_only=True):
    """An agent subnet, and the overlay it is of."""

    overlay: str
    subnet: str


class AgentReport(msgspec.Struct, frozen=True, kw_only=True):
    """An agent: its VTEP's address, what it holds, and whether it is alive (None: that cannot be known now).

    `since` when it lives, or when it was last seen, in seconds since 1970; None where that is not known. `here`: it
    is this host. `problems` are its first ones in words, and `more_problems` how many others it has, as it told at
    `as_of`, likewise in seconds; None where it told nothing of them, or that cannot be known now.
    """

    agent: str
    vtep: str | None
    subnets: list[HeldReport]
    alive: bool | None
    since: float | None
    here: bool
    problems: list[str] | None = None
    more_problems: int = 0
    as_of: float | None = None


class ClusterReport(msgspec.Struct, frozen=True, kw_only=True):
    """All agents; `problem` says why it is not known who is alive, where it is not."""

    agents: list[AgentReport]
    problem: str | None = None
