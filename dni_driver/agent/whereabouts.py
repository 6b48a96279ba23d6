# SPDX-License-Identifier: Apache-2.0
"""Notices that this host has another address than the one it is an agent by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from dni_driver.agent.identity import Identity
from dni_driver.core.errors import KernelError
from dni_driver.core.overlays import Address

log = structlog.get_logger(__name__)

PATIENCE = 15.0
"""Seconds: a link that is set up anew has no address for a moment."""


class Whereabouts:
    """Looks whether some link carries the agent IP; has the next joining find it anew where none has for a while."""

    def __init__(
        self,
        identity: Identity,
        underlay: Callable[[Address], object],
        moved: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        """`underlay` raises KernelError where no link carries an address; `moved` is called when there is another."""
        self._identity = identity
        self._underlay = underlay
        self._moved = moved
        self._monotonic = monotonic
        self._missing_since: float | None = None

    def look(self) -> Sequence[str]:
        """Look once; that the address is nowhere is said by whoever needs it."""
        known = self._identity.agent_ip()
        if known.is_loopback or self._is_carried(known):
            self._missing_since = None
            return ()
        now = self._monotonic()
        self._missing_since = now if self._missing_since is None else self._missing_since
        if now - self._missing_since >= PATIENCE and self._identity.moves():
            log.warning("this host has another address", formerly=str(known))
            self._missing_since = None
            self._moved()
        return ()

    def _is_carried(self, address: Address) -> bool:
        try:
            self._underlay(address)
        except KernelError:
            return False
        return True
