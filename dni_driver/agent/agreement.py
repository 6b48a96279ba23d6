# SPDX-License-Identifier: Apache-2.0
"""How the registry and this host's store come to tell the same.

What a crash leaves between the two is found again by the agent IP. Where the two contradict each other, what
containers use here wins, and else the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

import structlog

from dni_driver.agent.collected import Collected
from dni_driver.agent.identity import Identity
from dni_driver.agent.occupancy import forget_vacant
from dni_driver.core.errors import InUse, Refused
from dni_driver.core.overlays import AgentSubnet, Overlay
from dni_driver.registry import Registry
from dni_driver.registry.interface import includes
from dni_driver.store import Store, fence, leaving, overlays

log = structlog.get_logger(__name__)


class Agreement:
    """Settles what registry and store tell otherwise; those who call it hold the turn of `Joining`."""

    def __init__(self, store: Store, registry: Registry, identity: Identity, clock: Callable[[], float]) -> None:
        """Take both."""
        self._store = store
        self._registry = registry
        self._identity = identity
        self._clock = clock

    def refill(self) -> None:
        """Put everything back into a registry that has nothing: it is new, or was lost.

        What was being removed stays away: that nothing is left may be its end.
        """
        with self._store.read() as tx:
            known, gone = overlays.every(tx), leaving.every(tx)
        for overlay in (one for one in known if one.name not in gone):
            log.warning("put back into an empty registry", overlay=overlay.name)
            self._registry.define(overlay)

    def agree(self, problems: Collected, departing: Container[str] = ()) -> set[str]:
        """Have registry and store tell the same of what this host took part in before; answer where they do not.

        There nothing more is taken part in: containers with addresses of old would go on beside those with new ones.
        What is `departing` is given up or kept as a whole.
        """
        disputed = set()
        with self._store.read() as tx:
            known, held = [one for one in overlays.every(tx) if one.name not in departing], overlays.agent_subnets(tx)
        registered = {overlay.name: overlay for overlay in self._registry.overlays()}
        leased = {lease.held for lease in self._registry.leases(self._identity.agent_ip())}
        for overlay in known:
            mine = [one for one in held if one.overlay == overlay.name]
            with problems.of(f"overlay {overlay.name!r}") as error:
                if overlay.name not in registered or not includes(registered[overlay.name], overlay):
                    self._settle(overlay, mine)
                elif not leased.issuperset(mine):
                    self._confirm(overlay, mine)
            if error:
                disputed.add(overlay.name)
            self.judge(error[0] if error else None, overlay.name)
        return disputed

    def judge(self, why: str | None, overlay: str = "") -> None:
        """Have no address handed out of an overlay, or of any, that another host may hand out too; None: of none."""
        with self._store.read() as tx:
            if fence.disputed(tx, overlay) == why:
                return
        with self._store.write() as tx:
            if why is None:
                fence.settle(tx, overlay)
            else:
                fence.dispute(tx, why, overlay)

    def forgotten_or_put_back(self, overlay: Overlay, held: Sequence[AgentSubnet]) -> InUse | None:
        """Forget an overlay; where it is in use here, have it in the registry again, and answer what uses it.

        Raises InUse where the registry has something else in its place.
        """
        try:
            self._forget(overlay.name)
        except InUse as use:
            self._put_back(overlay, use)
            self._confirm(overlay, held)
            return use
        return None

    def _put_back(self, overlay: Overlay, use: InUse) -> None:
        try:
            self._registry.define(overlay)
        except Refused as error:
            raise _until_ended(error, use) from None

    def _settle(self, overlay: Overlay, mine: Sequence[AgentSubnet]) -> None:
        """Forget an overlay that the registry lacks, or has otherwise; put it back there where it is in use here."""
        if self.forgotten_or_put_back(overlay, mine) is None:
            log.warning("the registry does not have this overlay: forgotten here too", overlay=overlay.name)
        else:
            log.warning("put back into the registry what is in use here", overlay=overlay.name)

    def _confirm(self, overlay: Overlay, mine: Sequence[AgentSubnet]) -> None:
        """Have the registry know of leases that it lost, or that were under another agent IP."""
        agent_ip, formerly = self._identity.agent_ip(), self._identity.recorded()
        try:
            for held in mine:
                self._registry.confirm(held, agent_ip, formerly)
        except InUse as error:
            self._yield(overlay, error)

    def _yield(self, overlay: Overlay, error: InUse) -> None:
        """Forget an overlay whose agent subnet has another holder; raise that error where it is in use here."""
        try:
            self._forget(overlay.name)
        except InUse as use:
            raise _until_ended(error, use) from None
        log.warning("an agent subnet has another holder: forgotten here", overlay=overlay.name, error=str(error))

    def _forget(self, name: str) -> None:
        """Take an overlay out of the store, if nothing uses it; raise InUse."""
        with self._store.write() as tx:
            forget_vacant(tx, name, self._clock())


def _until_ended(error: Refused, use: InUse) -> Refused:
    """Build the error of what is otherwise in the registry, with what here keeps this host from going along."""
    return type(error)(f"{error}; {use}; after that this host takes what it is given, by itself")
