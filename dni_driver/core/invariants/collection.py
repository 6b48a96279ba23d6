# SPDX-License-Identifier: Apache-2.0
"""When a leak may be freed: seen twice, with a grace between, and unchanged all the while."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dni_driver.core.invariants.leaks import Leak, LostAddress, LostEndpoint, LostNetwork, LostPool
from dni_driver.core.records import AddressState


class Graces(msgspec.Struct, frozen=True, kw_only=True):
    """For how many seconds something must have been seen as leaked before it is freed.

    `claim`: what Docker asked for and never used, or gave back; `endpoint`: what a container may have;
    `network`: a network without endpoints.
    """

    claim: float = 120.0
    endpoint: float = 900.0
    network: float = 30.0


def grace(leak: Leak, graces: Graces) -> float:
    """Answer for how many seconds a leak must have been seen."""
    match leak:
        case LostAddress(overlay=None):
            return graces.endpoint
        case LostEndpoint(holdings=holdings) if any(held.state is AddressState.LEAVING for held in holdings):
            return graces.claim
        case LostNetwork(endpoints=()):
            return graces.network
        case LostPool(holdings=()):
            return graces.claim
        case LostEndpoint() | LostNetwork() | LostPool():
            return graces.endpoint
        case _:
            return graces.claim


class Sightings:
    """Since when each leak has been seen, in seconds of a clock that nobody sets.

    In memory: after a restart every wait begins anew. So does the wait for a leak that one look did not find,
    or found changed.
    """

    def __init__(self, graces: Graces) -> None:
        """Have seen nothing yet."""
        self._graces = graces
        self._first_seen: dict[Leak, float] = {}
        self._was_blind = False

    def due(self, found: Iterable[Leak], now: float) -> list[Leak]:
        """Note what a look has found; answer what was found before and has waited long enough."""
        earlier, was_blind = self._first_seen, self._was_blind
        seen = {leak: earlier.get(leak, now) for leak in found}
        waited = [
            leak for leak, first in seen.items() if leak in earlier and now - first >= grace(leak, self._graces)
        ]
        self._first_seen, self._was_blind = seen, False
        return [] if was_blind else waited

    @property
    def waiting(self) -> int:
        """Count what the last look has found."""
        return len(self._first_seen)

    def start_over(self, leak: Leak) -> None:
        """Let the wait for one leak begin anew."""
        self._first_seen.pop(leak, None)

    def blind(self) -> None:
        """Note that Docker could not be asked: the first look after that frees nothing yet."""
        self._was_blind = True
