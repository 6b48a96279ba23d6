# SPDX-License-Identifier: Apache-2.0
"""What the agent counts, for monitoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from dni_driver.core.addresses.filling import Load
from dni_driver.core.addresses.fullness import Holding
from dni_driver.core.overlays import Address
from dni_driver.core.records import Records


class Leases(msgspec.Struct, frozen=True, kw_only=True):
    """How many agent subnets of an overlay are held, by this agent or by others."""

    overlay: str
    family: int
    here: bool
    count: int


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """What the registry tells: who holds what, and how many agents it knows that are alive, and that are not."""

    leases: list[Leases]
    alive: int
    lost: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one moment; the last three count up from the agent's start. `cluster`: None where unreachable.

    `candidates` is what looks leaked and is being watched.
    """

    version: str
    docker_reachable: bool
    loads: list[Load]
    endpoints: Mapping[str, int]
    cluster: Cluster | None
    problems: int
    candidates: int
    reclaimed: int
    kernel_changes: int


def cluster_of(holdings: Iterable[Holding], alive: Sequence[bool], me: Address | None) -> Cluster:
    """Count who holds what, and agents, of which `alive` says for each whether it is."""
    held = Counter((one.held.overlay, one.held.family, one.agent == me) for one in holdings)
    leases = [
        Leases(overlay=name, family=family, here=here, count=count) for (name, family, here), count in held.items()
    ]
    return Cluster(leases=leases, alive=sum(alive), lost=len(alive) - sum(alive))


def endpoints_of(records: Records) -> dict[str, int]:
    """Count the endpoints on each overlay that has a network here."""
    overlays = {network.id: network.overlay for network in records.networks}
    counted = Counter(overlays[one.network] for one in records.endpoints if one.network in overlays)
    return {overlay: counted[overlay] for overlay in overlays.values()}
