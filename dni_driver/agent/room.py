# SPDX-License-Identifier: Apache-2.0
"""Has agent subnets leased before they are needed, and gives back those that nothing needs (docs/decisions/0026).

On its way out an agent subnet is marked in the store, so that no address comes from it; then the kernel, the
registry and the store forget it, in this order. Whatever dies in between, the mark is there to go on from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import structlog

from dni_driver.agent.identity import Identity
from dni_driver.agent.ports import Time
from dni_driver.core.addresses.room import Idle, Leaving, described, idle
from dni_driver.core.errors import DniError, Exhausted, NotMended, Unavailable
from dni_driver.core.names import docker_bridge, mesos_bridge
from dni_driver.core.overlays import AgentSubnet, Family
from dni_driver.mesos.host_local import occupied
from dni_driver.registry import Registry
from dni_driver.store import Store, Transaction, fence, overlays, room
from dni_driver.store.records import read

log = structlog.get_logger(__name__)

EMPTY_SECONDS = 3600.0
"""How long nothing must have needed an agent subnet before it is given back."""
IDLE_SECONDS = 60.0
"""From one look for what nothing needs to the next."""
RETRY_SECONDS = 5.0
"""After the registry has said no, until it is asked again."""


class Leasing:
    """Watches how full this agent's parts of the overlays are. Looks are made by one thread."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        identity: Identity,
        mend: Callable[[], object],
        in_turn: Callable[[], AbstractContextManager[None]],
        time: Time,
    ) -> None:
        """`mend` makes the kernel agree with the store, and raises KernelError; `in_turn` is that of Joining."""
        self._store = store
        self._registry = registry
        self._identity = identity
        self._mend = mend
        self._in_turn = in_turn
        self._time = time
        self._seen: object = None
        self._looks_again = self._looks_for_idle = 0.0
        self._asks_again: dict[tuple[str, Family], float] = {}
        self._idle_since: dict[Idle, float] = {}
        self._problems: list[str] = []

    def look(self) -> list[str]:
        """Look, where anything was written since the last time or a while has gone by; answer what is wrong."""
        version, now = self._store.version(), self._time.monotonic()
        if version != self._seen or now >= self._looks_again:
            self._seen = version
            self._looks_again = now + RETRY_SECONDS
            self._problems = [*self._let_go(), *self._grow(now)]
            self._choose_idle(now)
        return self._problems

    def _grow(self, now: float) -> list[str]:
        """Lease what is scarce; answer in words what cannot be had."""
        with self._store.read() as tx:
            scarce, before = [one for one in room.scarce(tx) if not _is_disputed(tx, one[0])], room.reasons(tx)
        due = [one for one in scarce if now >= self._asks_again.get(one, now)]
        answers = {one: self._lease(*one) for one in due}
        waiting = {one: before[one] for one in scarce if one in before and one not in due}
        after = waiting | {one: reason for one, reason in answers.items() if reason is not None}
        self._asks_again = {one: now + RETRY_SECONDS if one in due else self._asks_again[one] for one in after}
        self._record(before, after)
        problems = [f"{described(family, overlay)}: {reason}" for (overlay, family), reason in after.items()]
        return problems + (self._apply() if None in answers.values() else [])

    def _lease(self, overlay: str, family: Family) -> str | None:
        """Lease one more agent subnet; answer in words why there is none.

        What a crash leaves between registry and store is found again by the next joining.
        """
        try:
            if (overlay, family) not in self._asks_again or not self._recovered(overlay, family):
                self._take(self._registry.lease(overlay, family, self._identity.agent_ip()))
        except Exhausted as error:
            return str(error)
        except DniError as error:
            return f"no more can be leased now: {error}"
        return None

    def _recovered(self, overlay: str, family: Family) -> bool:
        """Take what the registry gave before and the store was not told of; tell whether there was any.

        A host whose disk is full would lease the whole overlay otherwise, one agent subnet with each attempt.
        """
        with self._in_turn():
            with self._store.read() as tx:
                known = {*overlays.agent_subnets(tx), *(one.held for one in room.leaving(tx))}
            held = [lease.held for lease in self._registry.leases(self._identity.agent_ip())]
            missed = [one for one in held if (one.overlay, one.family) == (overlay, family) and one not in known]
            for one in missed:
                self._take(one)
        return bool(missed)

    def _take(self, held: AgentSubnet) -> None:
        with self._store.write() as tx:
            overlays.find(tx, held.overlay)
            overlays.add_agent_subnet(tx, held)
        log.info("leased one more agent subnet", overlay=held.overlay, agent_subnet=str(held.subnet))

    def _record(self, before: dict[tuple[str, Family], str], after: dict[tuple[str, Family], str]) -> None:
        """Have starts know, which find no free address, that they need not wait for one."""
        changed = [one for one in {**before, **after} if before.get(one) != after.get(one)]
        if changed:
            with self._store.write() as tx:
                for overlay, family in changed:
                    room.set_reason(tx, overlay, family, after.get((overlay, family)))

    def _apply(self) -> list[str]:
        try:
            self._mend()
        except DniError as error:
            return [str(error)]
        return []

    def _let_go(self) -> list[str]:
        """Finish giving back what is on its way out; answer in words what hinders that."""
        with self._store.read() as tx:
            leaving = [one for one in room.leaving(tx) if not _is_disputed(tx, one.held.overlay)]
        if not leaving:
            return []
        try:
            self._mend()
            refused: NotMended | None = None
        except NotMended as error:
            refused = error
        except DniError as error:
            return [str(error)]
        return [problem for one in leaving for problem in self._forget(one, refused)]

    def _forget(self, leaving: Leaving, refused: NotMended | None) -> Iterator[str]:
        held = leaving.held
        bridges = (docker_bridge(held.overlay), mesos_bridge(held.overlay))
        hindrances = dict.fromkeys(text for bridge in bridges for text in (refused.on(bridge) if refused else ()))
        if hindrances:
            yield f"agent subnet {held.subnet} of overlay {held.overlay!r} stays: {'; '.join(hindrances)}"
            return
        try:
            # Whoever read this lease before would record it again, when another agent may have got it.
            with self._in_turn():
                self._registry.give_back(held, leaving.agent_ip)
                with self._store.write() as tx:
                    room.forget(tx, held)
        except DniError as error:
            yield f"agent subnet {held.subnet} of overlay {held.overlay!r} is not given back yet: {error}"
        else:
            log.info("given back: nothing has needed it", overlay=held.overlay, agent_subnet=str(held.subnet))

    def _choose_idle(self, now: float) -> None:
        """Note what nothing needs; begin to give back, one at a time, what nothing has needed for long."""
        if now < self._looks_for_idle:
            return
        self._looks_for_idle = now + IDLE_SECONDS
        with self._store.read() as tx:
            found = [one for one in self._idle(tx) if not self._is_taken_by_mesos(one.held)]
        self._idle_since = {one: self._idle_since.get(one, now) for one in found}
        due = [one for one in found if now - self._idle_since[one] >= EMPTY_SECONDS]
        if due:
            self._begin_leaving(due[-1])

    def _idle(self, tx: Transaction) -> list[Idle]:
        return list(idle(read(tx), self._time.clock()))

    def _is_taken_by_mesos(self, held: AgentSubnet) -> bool:
        """Tell whether a container of Mesos has an address of it; what cannot be told is taken for a yes."""
        try:
            taken = occupied(held.overlay)
        except Unavailable:
            return True
        return any(address in held.mesos_half for address in taken)

    def _begin_leaving(self, chosen: Idle) -> None:
        """Mark an agent subnet, unless it has been needed again."""
        leaving = Leaving(held=chosen.held, agent_ip=self._identity.agent_ip())
        with self._store.write() as tx:
            if chosen not in self._idle(tx):
                return
            room.begin_leaving(tx, leaving)
        self._looks_again = 0.0


def _is_disputed(tx: Transaction, overlay: str) -> bool:
    """Tell whether what this host has of an overlay may be another's: it neither takes nor gives any then."""
    return fence.disputed(tx) is not None or fence.disputed(tx, overlay) is not None
