# SPDX-License-Identifier: Apache-2.0
"""Removes overlays in the whole cluster, and takes part where others remove one (docs/decisions/0045)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, sleep

import structlog

from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.agent.networking import Networking
from dni_driver.core.deadline import within
from dni_driver.core.errors import InUse, KernelError, Unavailable
from dni_driver.core.overlays import Address, Overlay
from dni_driver.core.removal import hindered, not_given_up
from dni_driver.registry import Registry

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 8.0
"""How long somebody who removes an overlay waits for the other hosts; those that are well need one or two."""
_LOOKS_EVERY = 0.2


class Removal:
    """Safe to call from several threads. `is_hindered`: this host could not take its part, when it last tried."""

    def __init__(
        self,
        registry: Registry,
        identity: Identity,
        joining: Joining,
        networking: Networking,
        withdraw_cni: Callable[[str], None],
    ) -> None:
        """`withdraw_cni` has no runtime find an overlay any more, and raises InUse where one has used it."""
        self._registry = registry
        self._identity = identity
        self._joining = joining
        self._departure = joining.departure
        self._networking = networking
        self._withdraw_cni = withdraw_cni
        self.is_hindered = False

    def remove(self, name: str) -> None:
        """Remove an overlay that nothing uses on any host; return when it is gone.

        Raises NotFound, Refused, InUse naming what or who uses it, Unavailable naming who has not answered yet: then
        it goes by itself when they have.
        """
        meant = self._definition(name)
        if self._joining.begin_removal(name):
            why = self._take_part(name, self._identity.agent_ip())
            if why is not None:
                raise hindered(name, why)
            self._await_end(name, meant)
        else:
            self._networking.withdraw(name)
            self._joining.forget(name)
        log.info("overlay removed", overlay=name)

    def keep(self, name: str) -> None:
        """Call the removal of an overlay off; one that is not leaving stays anyway. Raises NotFound."""
        self._registry.keep(name)
        log.info("overlay kept", overlay=name)

    def look(self) -> Sequence[str]:
        """Give up what is leaving, or keep it where it is used here; answer in words what hinders that."""
        if not self._joining.is_registered:
            return ()
        answers = {name: self._answer(name, remover) for name, remover in self._registry.leaving().items()}
        problems = [str(hindered(name, why)) for name, why in answers.items() if why is not None]
        self.is_hindered = bool(problems)
        return problems

    def _answer(self, name: str, remover: Address) -> str | None:
        """Take part, if that is still to be done; end the removal, if nobody else has anything to do either."""
        try:
            why = self._take_part(name, remover) if self._is_to_give_up(name) else None
            self._is_ended(name)
        except InUse as use:
            log.info("an overlay stays", overlay=name, why=str(use))
            return None
        return why

    def _is_to_give_up(self, name: str) -> bool:
        with self._joining.in_turn():
            if self._joining.is_default(name):
                self._departure.object(name)
                return False
            return self._departure.holds(name)

    def _take_part(self, name: str, remover: Address) -> str | None:
        """Begin nothing more with an overlay, take its networks away, and give up what is held of it.

        Answers in words what hinders that for now. Raises InUse where this host uses it, which keeps it for all.
        """
        try:
            with self._joining.in_turn():
                self._departure.close(name, remover)
            why = self._withdraw(name)
            if why is None:
                with self._joining.in_turn():
                    self._departure.give_up(name, remover)
        except InUse:
            with self._joining.in_turn():
                self._departure.object(name)
            raise
        return why

    def _withdraw(self, name: str) -> str | None:
        """Take away what containers find an overlay by; answer in words what hinders that."""
        try:
            self._networking.withdraw(name)
            self._withdraw_cni(name)
        except (KernelError, Unavailable) as error:
            return str(error)
        return None

    def _await_end(self, name: str, meant: Overlay | None) -> None:
        """Wait until the overlay that is meant is gone; another may be defined in its place at once."""
        ends = monotonic() + ANSWER_SECONDS
        try:
            while not self._is_ended(name):
                if monotonic() >= ends:
                    raise not_given_up(name, self._holders(name))
                sleep(within(_LOOKS_EVERY))
        except InUse:
            if self._definition(name) == meant:
                raise

    def _definition(self, name: str) -> Overlay | None:
        return next((overlay for overlay in self._registry.overlays() if overlay.name == name), None)

    def _is_ended(self, name: str) -> bool:
        with self._joining.in_turn():
            return self._departure.end(name)

    def _holders(self, name: str) -> set[Address]:
        return {lease.agent_ip for lease in self._registry.leases() if lease.held.overlay == name}
