# SPDX-License-Identifier: Apache-2.0
"""How this host becomes an agent: its IP, the overlays, and its agent subnet of each.

The registry is written first, then the store, which the plugin reads. What a crash leaves between the two is
found again by the agent IP. Where the two contradict each other, what containers use here wins, and else the
registry.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from ipaddress import IPv4Address

import structlog

from dni_driver.agent.occupancy import check_vacant
from dni_driver.core.deadline import holding
from dni_driver.core.errors import DniError, Exhausted, InUse, NotFound, Refused
from dni_driver.core.overlays import FAMILIES, AgentSubnet, Overlay
from dni_driver.registry import Registry
from dni_driver.registry.interface import agree, describe, includes
from dni_driver.store import Store, local_subnets, networks, overlays, pools

log = structlog.get_logger(__name__)

TURN_SECONDS = 15.0
"""How long one waits for another to end what it does with the registry; a caller over the operator API has 20 s."""


class Identity:
    """Under which address this host is an agent: the configured one, or the one it is best known by.

    Found once: an address that changes under a running agent is taken up at its next start. A host that is found
    to have none but its loopback keeps the one it was known by, and is looked at again.
    """

    def __init__(self, store: Store, find: Callable[[], IPv4Address], configured: IPv4Address | None) -> None:
        """Take how to find the address; `configured` is used as it stands."""
        self._store = store
        self._find = find
        self._configured = configured
        self._found: IPv4Address | None = None

    def agent_ip(self) -> IPv4Address:
        """Answer the agent IP."""
        if self._configured is not None:
            return self._configured
        if self._found is None or self._found.is_loopback:
            found = self._find()
            self._found = (self.recorded() or found) if found.is_loopback else found
        return self._found

    def recorded(self) -> IPv4Address | None:
        """Answer the agent IP that the store has: another one than now after it changed."""
        with self._store.read() as tx:
            return overlays.agent_ip(tx)

    def record(self) -> None:
        """Have the store know the agent IP."""
        known = self.agent_ip()
        if self.recorded() != known:
            with self._store.write() as tx:
                overlays.set_agent_ip(tx, known)
            log.info("this host is an agent", agent=str(known))


class Joining:
    """Takes part in the overlays of a registry. Safe to call from several threads."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        identity: Identity,
        default: Overlay | None,
        clock: Callable[[], float],
    ) -> None:
        """`default` is the overlay that is there without anybody defining it, if any."""
        self._store = store
        self._registry = registry
        self._identity = identity
        self._default = default
        self._clock = clock
        self._turn = threading.Lock()

    def join(self) -> Sequence[str]:
        """Take part in every overlay there is; answer in words what does not work.

        Raises StoreError or Unavailable where nothing works.
        """
        problems = _Collected()
        with self._in_turn():
            if not self._registry.overlays():
                self._refill()
            if self._default is not None:
                with problems.of("the default overlay"):
                    self._registry.define(self._default)
            disputed = self._agree(problems)
            self._identity.record()
            for overlay in (one for one in self._registry.overlays() if one.name not in disputed):
                with problems.of(f"overlay {overlay.name!r}"):
                    self._take_part(overlay)
            self._end_trials()
        return problems.texts

    def define(self, overlay: Overlay) -> None:
        """Define an overlay in the whole cluster, to stay, and take part in it."""
        with self._in_turn():
            with self._store.read() as tx:
                pools.check_apart(tx, overlay)
            self._define(overlay)
            with self._store.write() as tx:
                pools.settle(tx, overlay.name)

    def try_out(self, overlay: Overlay) -> None:
        """Define an overlay for a Docker network that is being created: without that network it goes again.

        One that is on trial already gets the family it lacks: dockerd asks for IPv4 first, then for IPv6.
        """
        with self._in_turn():
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

    def remove(self, name: str) -> None:
        """Remove an overlay that nothing uses; raise NotFound, or InUse naming what uses it.

        The store first: from then on no network can be made of it. Where the registry then cannot be had, the
        overlay comes back at the next joining, and the caller has the error.
        """
        with self._in_turn():
            self._check_not_default(name)
            self._discard(name)
        log.info("overlay removed", overlay=name)

    def _in_turn(self) -> AbstractContextManager[None]:
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

    def _define(self, overlay: Overlay) -> None:
        self._registry.define(overlay)
        self._identity.record()
        self._take_part(overlay)

    def _discard(self, name: str) -> None:
        """Remove an overlay from the store, then from the registry; raise NotFound where neither has it."""
        known = self._forget(name)
        try:
            self._registry.remove(name)
        except NotFound:
            if not known:
                raise

    def _end_trials(self) -> None:
        """Let overlays stay whose network was created; remove those whose network never came to be."""
        with self._store.read() as tx:
            tried = pools.tried_out(tx, self._clock())
        for name in tried:
            try:
                self._discard(name)
            except InUse:
                self._settle_created(name)
            else:
                log.info("removed: the network it was defined for was not created", overlay=name)

    def _settle_created(self, name: str) -> None:
        with self._store.write() as tx:
            if networks.of_overlay(tx, name) is not None:
                pools.settle(tx, name)

    def _check_not_default(self, name: str) -> None:
        """Refuse to remove what would be back at once; one with other subnets than the settings say may go."""
        default = self._default
        if default is None or default.name != name:
            return
        if any(overlay.name == name and agree(overlay, default) for overlay in self._registry.overlays()):
            raise Refused(f"overlay {name!r} is the default overlay: it is there as long as the settings name it")

    def _forget(self, name: str) -> bool:
        """Take an overlay out of the store, if nothing uses it; tell whether it was there."""
        with self._store.write() as tx:
            check_vacant(tx, name, self._clock())
            known = name in {overlay.name for overlay in overlays.every(tx)}
            overlays.remove(tx, name)
        return known

    def _refill(self) -> None:
        """Put everything back into a registry that has nothing: it is new, or was lost."""
        with self._store.read() as tx:
            known = overlays.every(tx)
        for overlay in known:
            log.warning("put back into an empty registry", overlay=overlay.name)
            self._registry.define(overlay)

    def _agree(self, problems: _Collected) -> set[str]:
        """Have registry and store tell the same of what this host took part in before; answer where they do not.

        There nothing more is taken part in: containers with addresses of old would go on beside those with new ones.
        """
        disputed = set()
        with self._store.read() as tx:
            known, held = overlays.every(tx), overlays.agent_subnets(tx)
        registered = {overlay.name: overlay for overlay in self._registry.overlays()}
        leased = {lease.held for lease in self._registry.leases(self._identity.agent_ip())}
        for overlay in known:
            mine = [one for one in held if one.overlay == overlay.name]
            before = len(problems.texts)
            with problems.of(f"overlay {overlay.name!r}"):
                if overlay.name not in registered or not includes(registered[overlay.name], overlay):
                    self._settle(overlay, mine)
                elif not leased.issuperset(mine):
                    self._confirm(overlay, mine)
            if len(problems.texts) > before:
                disputed.add(overlay.name)
        return disputed

    def _settle(self, overlay: Overlay, mine: Sequence[AgentSubnet]) -> None:
        """Forget an overlay that the registry lacks, or has otherwise; put it back there where it is in use here."""
        try:
            self._forget(overlay.name)
        except InUse:
            log.warning("putting back into the registry what is in use here", overlay=overlay.name)
            self._registry.define(overlay)
            self._confirm(overlay, mine)
        else:
            log.warning("the registry does not have this overlay: forgotten here too", overlay=overlay.name)

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
        except InUse:
            raise error from None
        log.warning("an agent subnet has another holder: forgotten here", overlay=overlay.name, error=str(error))

    def _take_part(self, overlay: Overlay) -> None:
        held = self._leases(overlay)
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

    def _leases(self, overlay: Overlay) -> list[AgentSubnet]:
        """Answer this agent's subnets of an overlay, with one leased now for each family that had none."""
        agent_ip = self._identity.agent_ip()
        held = [lease.held for lease in self._registry.leases(agent_ip) if lease.held.overlay == overlay.name]
        spoken = [family for family in FAMILIES if overlay.space(family) is not None]
        missing = set(spoken) - {one.family for one in held}
        return [*held, *(self._registry.lease(overlay.name, family, agent_ip) for family in sorted(missing))]


class _Collected:
    """Problems of parts that do not keep the others from going on; a registry that cannot be had is none."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @contextmanager
    def of(self, subject: str) -> Iterator[None]:
        try:
            yield
        except (Refused, Exhausted) as error:
            self.texts.append(f"{subject}: {error}")
