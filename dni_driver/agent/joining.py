# SPDX-License-Identifier: Apache-2.0
"""How this host becomes an agent: its IP, the overlays, and its agent subnet of each.

The registry is written first, then the store, which the plugin reads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import TypeVar

import msgspec
import structlog

from dni_driver.agent.agreement import Agreement
from dni_driver.agent.collected import Collected
from dni_driver.agent.departure import Departure
from dni_driver.agent.identity import Identity
from dni_driver.agent.occupancy import check_vacant
from dni_driver.core.deadline import holding
from dni_driver.core.errors import Disowned, DniError, Doubled, Exhausted, InUse, NoAgent, NotFound, Refused
from dni_driver.core.overlays import FAMILIES, Address, AgentSubnet, Backend, Overlay
from dni_driver.registry import Registry
from dni_driver.registry.interface import agree, describe
from dni_driver.store import Store, fence, leaving, local_subnets, networks, overlays, peers, pools

log = structlog.get_logger(__name__)

R = TypeVar("R")

TURN_SECONDS = 15.0
"""How long one waits for another to end what it does with the registry; a caller over the operator API has 20 s."""
DOUBLED_SECONDS = 30.0
"""After this, who is alive as this host is a copy of it: an earlier life of its own is forgotten by the registry."""


class Joining:
    """Takes part in the overlays of a registry. Safe to call from several threads.

    `departure` is its part in removals; who asks that holds the turn.

    `registered_as`: the agent IP by which the registry took this host for an agent when it was last asked, None where
    it did not; `settlement`: not None where it agreed that all this host holds is its own, and another each time.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        identity: Identity,
        default: Overlay | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`default` is the overlay that is there without anybody defining it, if any."""
        self._store = store
        self._registry = registry
        self._identity = identity
        self._default = default
        self._clock = clock
        self._monotonic = monotonic
        self._agreement = Agreement(store, registry, identity, clock)
        self.departure = Departure(store, registry, identity, clock)
        self._turn = threading.Lock()
        self._doubled_since: float | None = None
        self.registered_as: Address | None = None
        self.settlement: object | None = None

    @property
    def is_registered(self) -> bool:
        """Tell whether the registry took this host for the agent that it says it is, when it was last asked."""
        return self.registered_as is not None

    @property
    def is_settled(self) -> bool:
        """Tell whether the registry agreed then that all this host holds is its own."""
        return self.settlement is not None

    def join(self) -> Sequence[str]:
        """Take part in every overlay there is; answer in words what does not work.

        Raises StoreError or Unavailable where nothing works.
        """
        problems = Collected()
        with self.in_turn():
            self._register()
            if not self._registry.overlays():
                self._agreement.refill()
            departing = self._registry.leaving()
            if self._default is not None and self._default.name not in departing:
                with problems.of("the default overlay"):
                    self._registry.define(self._as_it_travels(self._default))
            disputed = self._agreement.agree(problems, departing)
            self._identity.record()
            with problems.of("overlay.vtep_subnet"):
                self._widen_vteps()
            self.settlement = None if disputed else object()
            self._resume_others(departing)
            for overlay in (one for one in self._registry.overlays() if one.name not in {*disputed, *departing}):
                with problems.of(f"overlay {overlay.name!r}"):
                    self._take_part(overlay)
            self._end_trials(problems)
        return problems.texts

    def _resume_others(self, departing: Container[str]) -> None:
        """Have containers be started again on overlays that stay after all."""
        with self._store.read() as tx:
            marked = leaving.every(tx)
        for name in (one for one in marked if one not in departing):
            self.departure.resume(name)

    def vanished(self) -> list[str]:
        """Answer the overlays that were removed on another host; a registry that has none at all has lost them."""
        registered = {overlay.name for overlay in self._registry.overlays()}
        with self._store.read() as tx:
            known = [overlay.name for overlay in overlays.every(tx) if not pools.on_trial(tx, overlay.name)]
        return [name for name in known if name not in registered] if registered else []

    def define(self, overlay: Overlay) -> None:
        """Define an overlay in the whole cluster, to stay, and take part in it."""
        with self.in_turn():
            with self._store.read() as tx:
                pools.check_apart(tx, overlay)
            self._define(overlay)
            with self._store.write() as tx:
                pools.settle(tx, overlay.name)

    def try_out(self, overlay: Overlay) -> None:
        """Define an overlay for a Docker network that is being created: without that network it goes again.

        One that is on trial already gets the family it lacks: dockerd asks for IPv4 first, then for IPv6.
        """
        with self.in_turn():
            with self._store.read() as tx:
                pools.check_apart(tx, overlay)
                widened = pools.on_trial(tx, overlay.name) and overlay not in overlays.every(tx)
            if widened:
                self._registry.widen(overlay)
                self._take_part(overlay)
            elif self._is_known(overlay.name):
                self._define(overlay)
            else:
                self._begin_trial(overlay)

    def begin_removal(self, name: str) -> bool:
        """Have an overlay leave in the whole cluster; tell whether the registry has it, or but the store.

        Raises Refused, NotFound, or InUse naming what or who uses it.
        """
        with self.in_turn():
            if self.is_default(name):
                raise _there_by_settings(name)
            if self._identity.agent_ip() not in self._registry.alive():
                self._register()
            return self._begins_to_leave(name)

    def forget(self, name: str) -> None:
        """Forget an overlay that the registry does not have; raise InUse where it is used here: it is put back."""
        with self.in_turn():
            self._forget(name)

    def is_default(self, name: str) -> bool:
        """Tell whether an overlay would be back at once; one with other subnets than the settings say would not."""
        default = self._default
        if default is None or default.name != name:
            return False
        meant = self._as_it_travels(default)
        return any(overlay.name == name and agree(overlay, meant) for overlay in self._registry.overlays())

    def in_turn(self) -> AbstractContextManager[None]:
        """Keep others from changing what this host holds: registry and store hold together in here."""
        return holding(self._turn, TURN_SECONDS, "another change of the overlays is under way: try again in a moment")

    def _is_known(self, name: str) -> bool:
        with self._store.read() as tx:
            known = [*overlays.every(tx), *self._registry.overlays()]
        return name in {overlay.name for overlay in known}

    def _begin_trial(self, overlay: Overlay) -> None:
        """Define an overlay, in the store first: what a crash leaves is on trial, or forgotten by the next join."""
        with self._store.write() as tx:
            overlays.put(tx, overlay)
            pools.try_out(tx, overlay, self._clock())
        try:
            self._define(overlay)
        except DniError:
            with suppress(DniError):
                self._discard(overlay.name)
            raise

    def set_backend(self, name: str, backend: Backend) -> None:
        """Have an overlay's packets travel in another way, in the whole cluster."""
        with self.in_turn():
            self._registry.set_backend(name, backend)
            for overlay in self._registry.overlays():
                if overlay.name == name:
                    self._take_part(overlay)

    def _register(self) -> None:
        """Be an agent that is alive, before anything is held under its IP; raise InUse where another host is it."""
        self._identity.renew()
        self._register_again()

    def _register_again(self) -> None:
        """Do so under the address that was found before."""
        self.registered_as = None
        self.settlement = None
        host = self._identity.host()
        if host.reclaim_after is not None:
            self._keep_within(host.reclaim_after / 2)
        doubled_since, self._doubled_since = self._doubled_since, None
        try:
            vtep = self._registry.register(host)
        except Doubled as error:
            self._doubled_since = self._monotonic() if doubled_since is None else doubled_since
            if self._monotonic() - self._doubled_since >= DOUBLED_SECONDS:
                self._agreement.judge(str(error))
            raise
        except Disowned as error:
            self._agreement.judge(str(error))
            raise
        self._agreement.judge(None)
        with self._store.read() as tx:
            known = peers.vtep(tx)
        if known != vtep:
            with self._store.write() as tx:
                peers.set_vtep(tx, vtep)
        self.registered_as = host.agent_ip

    def _keep_within(self, seconds: float) -> None:
        """Hand out addresses for so long at the most, before others know when they may reclaim them.

        What makes it longer again is a sign of life: where it never comes to one, this host ends in time.
        """
        now = self._clock()
        with self._store.read() as tx:
            if fence.is_within(tx, now, seconds):
                return
        with self._store.write() as tx:
            fence.shorten(tx, now, seconds)

    def _widen_vteps(self) -> None:
        """Have VTEPs come from the subnet that the settings say; raise Refused or InUse where they cannot."""
        host = self._identity.host()
        if host.vtep_subnet is not None and host.vtep is not None and host.vtep.ip.network != host.vtep_subnet:
            self._registry.widen_vteps(host.vtep_subnet)
            self._register_again()

    def _define(self, overlay: Overlay) -> None:
        if not self.is_registered:
            self._register()
        self._registry.define(overlay)
        self._identity.record()
        self._take_part(overlay)

    def _begins_to_leave(self, name: str) -> bool:
        with self._store.read() as tx:
            is_known = any(overlay.name == name for overlay in overlays.every(tx))
        try:
            self._as_an_agent(lambda: self.departure.begin(name))
        except NoAgent:
            raise
        except NotFound:
            if not is_known:
                raise
            return False
        return True

    def _forget(self, name: str) -> None:
        with self._store.read() as tx:
            known = [overlay for overlay in overlays.every(tx) if overlay.name == name]
            held = overlays.agent_subnets(tx, name)
        for overlay in known:
            use = self._agreement.forgotten_or_put_back(overlay, held)
            if use is not None:
                raise use

    def _discard(self, name: str) -> None:
        """Begin to remove an overlay, and give up what is held of it here; others do so when they hear of that.

        Raises NotFound where neither registry nor store has it, InUse where something uses it, here or elsewhere.
        """
        with self._store.read() as tx:
            check_vacant(tx, name, self._clock())
        if not self._begins_to_leave(name):
            self._forget(name)
            return
        try:
            self.departure.give_up(name, self._identity.agent_ip())
        except InUse:
            self.departure.object(name)
            raise
        self.departure.end(name)

    def _end_trials(self, problems: Collected) -> None:
        """Let overlays stay whose network was created; remove those whose network never came to be."""
        with self._store.read() as tx:
            tried = pools.tried_out(tx, self._clock())
        for name in tried:
            with problems.of(f"overlay {name!r}, whose network was not created"):
                self._end_trial(name)

    def _end_trial(self, name: str) -> None:
        """Settle it or remove it; raise InUse where something else keeps it from going."""
        try:
            self._discard(name)
        except InUse:
            if not self._is_settled_by_network(name):
                raise
        else:
            log.info("removed: the network it was defined for was not created", overlay=name)

    def _is_settled_by_network(self, name: str) -> bool:
        with self._store.write() as tx:
            has_network = networks.is_of(tx, name)
            if has_network:
                pools.settle(tx, name)
        return has_network

    def _as_it_travels(self, default: Overlay) -> Overlay:
        """Answer the default overlay with the backend that it was given since: the settings say nothing of it."""
        known = (overlay.backend for overlay in self._registry.overlays() if overlay.name == default.name)
        return msgspec.structs.replace(default, backend=next(known, default.backend))

    def _take_part(self, overlay: Overlay) -> None:
        """Hold an agent subnet for each family, in registry and store, or what there was before."""
        held = [
            one.held for one in self._registry.leases(self._identity.agent_ip()) if one.held.overlay == overlay.name
        ]
        leased: list[AgentSubnet] = []
        try:
            self._lease_missing(overlay, held, leased)
            self._record_part(overlay, [*held, *leased])
        except (Exhausted, Refused):
            self._give_back(leased)
            raise

    def _lease_missing(self, overlay: Overlay, held: Iterable[AgentSubnet], leased: list[AgentSubnet]) -> None:
        """Lease one agent subnet for each family that has none, and note it at once: the next may be refused."""
        missing = {family for family in FAMILIES if overlay.space(family) is not None} - {one.family for one in held}
        for family in sorted(missing):
            lease = partial(self._registry.lease, overlay.name, family, self._identity.agent_ip())
            leased.append(self._as_an_agent(lease))

    def _as_an_agent(self, act: Callable[[], R]) -> R:
        """Do what the registry does for agents alone; once more where it did not know this one, or not any more."""
        try:
            return act()
        except NoAgent:
            self._register_again()
            return act()

    def _give_back(self, leased: Iterable[AgentSubnet]) -> None:
        """Give back what was leased just now, but for what the store has: a registry may have lost that."""
        with self._store.read() as tx:
            recorded = overlays.agent_subnets(tx)
        for one in (one for one in leased if one not in recorded):
            with suppress(DniError):
                self._registry.give_back(one, self._identity.agent_ip())

    def _record_part(self, overlay: Overlay, held: Sequence[AgentSubnet]) -> None:
        with self._store.read() as tx:
            recorded = overlays.agent_subnets(tx, overlay.name)
            known = overlay in overlays.every(tx)
        if known and set(held).issubset(recorded):
            return
        with self._store.write() as tx:
            pools.check_apart(tx, overlay)
            for subnet in overlay.subnets():
                local_subnets.make_way(tx, subnet)
            overlays.put(tx, overlay)
            for one in held:
                overlays.add_agent_subnet(tx, one)
        subnets = [str(one.subnet) for one in held]
        log.info("taking part", overlay=overlay.name, definition=describe(overlay), agent_subnets=subnets)


def _there_by_settings(name: str) -> Refused:
    return Refused(
        f"overlay {name!r} is the default overlay, there as long as the settings say so: set overlay.name to "
        f"another, start dni again, and remove it then"
    )
