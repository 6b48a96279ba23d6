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
    is this host.
    """

    agent: str
    vtep: str | None
    subnets: list[HeldReport]
    alive: bool | None
    since: float | None
    here: bool


class ClusterReport(msgspec.Struct, frozen=True, kw_only=True):
    """All agents; `problem` says why it is not known who is alive, where it is not."""

    agents: list[AgentReport]
    problem: str | None = None
