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

import structlog

from dni_driver.agent.identity import Identity
from dni_driver.agent.occupancy import check_vacant, used_overlays
from dni_driver.core.deadline import holding
from dni_driver.core.errors import Disowned, DniError, Exhausted, InUse, NotFound, Refused
from dni_driver.core.overlays import FAMILIES, AgentSubnet, Backend, Overlay
from dni_driver.registry import Registry
from dni_driver.registry.interface import agree, describe, includes
from dni_driver.store import Store, fence, local_subnets, networks, overlays, peers, pools

log = structlog.get_logger(__name__)

TURN_SECONDS = 15.0
"""How long one waits for another to end what it does with the registry; a caller over the operator API has 20 s."""

_WAY_OUT = (
    "stop its containers here and `docker network rm` its network, then this host gets another part of it "
    "within a minute"
)


class Joining:
    """Takes part in the overlays of a registry. Safe to call from several threads.

    `is_registered`: the registry took this host for the agent that it says it is, when it was last asked;
    `is_settled`: and it agreed that all this host holds is its own.
    """

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
        self.is_registered = self.is_settled = False

    def join(self) -> Sequence[str]:
        """Take part in every overlay there is; answer in words what does not work.

        Raises StoreError or Unavailable where nothing works.
        """
        problems = _Collected()
        with self.in_turn():
            self._register()
            if not self._registry.overlays():
                self._refill()
            if self._default is not None:
                with problems.of("the default overlay"):
                    self._registry.define(self._default)
            disputed = self._agree(problems)
            self.is_settled = not problems.texts
            self._identity.record()
            with problems.of("overlay.vtep_subnet"):
                self._widen_vteps()
            for overlay in (one for one in self._registry.overlays() if one.name not in disputed):
                with problems.of(f"overlay {overlay.name!r}"):
                    self._take_part(overlay)
            self._end_trials()
        return problems.texts

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

    def remove(self, name: str) -> None:
        """Remove an overlay that nothing uses on any host; raise NotFound, or InUse naming what or who uses it."""
        with self.in_turn():
            self._check_not_default(name)
            self._discard(name)
        log.info("overlay removed", overlay=name)

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
        self.is_registered = self.is_settled = False
        try:
            vtep = self._registry.register(self._identity.host())
        except Disowned as error:
            self._judge(str(error))
            raise
        self._judge(None)
        with self._store.read() as tx:
            known = peers.vtep(tx)
        if known != vtep:
            with self._store.write() as tx:
                peers.set_vtep(tx, vtep)
        self.is_registered = True

    def _widen_vteps(self) -> None:
        """Have VTEPs come from the subnet that the settings say; raise Refused or InUse where they cannot."""
        host = self._identity.host()
        if host.vtep_subnet is not None and host.vtep is not None and host.vtep.ip.network != host.vtep_subnet:
            self._registry.widen_vteps(host.vtep_subnet)
            self._register()

    def _define(self, overlay: Overlay) -> None:
        if not self.is_registered:
            self._register()
        self._registry.define(overlay)
        self._identity.record()
        self._take_part(overlay)

    def _discard(self, name: str) -> None:
        """Remove an overlay from the registry, then from the store; raise NotFound where neither has it.

        What a crash leaves in the store is forgotten by the next joining. Raises InUse where something uses it, here
        or on another host; what came to use it meanwhile has it put back.
        """
        with self._store.read() as tx:
            check_vacant(tx, name, self._clock())
            used = used_overlays(tx, self._clock())
            known = [overlay for overlay in overlays.every(tx) if overlay.name == name]
            held = overlays.agent_subnets(tx, name)
        self._registry.use(self._identity.agent_ip(), used)
        try:
            self._registry.remove(name)
        except NotFound:
            if not known:
                raise
        for overlay in known:
            use = self._forgotten_or_put_back(overlay, held)
            if use is not None:
                raise use

    def _forgotten_or_put_back(self, overlay: Overlay, held: Sequence[AgentSubnet]) -> InUse | None:
        """Forget an overlay; where it is in use here, have it in the registry again, and answer what uses it.

        Raises InUse where the registry has something else in its place.
        """
        try:
            self._forget(overlay.name)
        except InUse as use:
            self._registry.define(overlay)
            self._confirm(overlay, held)
            return use
        return None

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
            if networks.is_of(tx, name):
                pools.settle(tx, name)

    def _check_not_default(self, name: str) -> None:
        """Refuse to remove what would be back at once; one with other subnets than the settings say may go."""
        default = self._default
        if default is None or default.name != name:
            return
        if any(overlay.name == name and agree(overlay, default) for overlay in self._registry.overlays()):
            raise Refused(
                f"overlay {name!r} is the default overlay, there as long as the settings say so: set overlay.name to "
                f"another, start dni again, and remove it then"
            )

    def _forget(self, name: str) -> None:
        """Take an overlay out of the store, if nothing uses it; raise InUse."""
        with self._store.write() as tx:
            check_vacant(tx, name, self._clock())
            overlays.remove(tx, name)
            fence.settle(tx, name)

    def _refill(self) -> None:
        """Put everything back into a registry that has nothing: it is new, or was lost."""
        with self._store.read() as tx:
            known = overlays.every(tx)
        for overlay in known:
            log.warning("put back into an empty registry", overlay=overlay.name)
            self._registry.define(overlay)

    def _judge(self, why: str | None, overlay: str = "") -> None:
        """Have no address handed out of an overlay, or of any, that another host may hand out too; None: of none."""
        with self._store.read() as tx:
            if fence.disputed(tx, overlay) == why:
                return
        with self._store.write() as tx:
            if why is None:
                fence.settle(tx, overlay)
            else:
                fence.dispute(tx, why, overlay)

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
            with problems.of(f"overlay {overlay.name!r}") as error:
                if overlay.name not in registered or not includes(registered[overlay.name], overlay):
                    self._settle(overlay, mine)
                elif not leased.issuperset(mine):
                    self._confirm(overlay, mine)
            if error:
                problems.texts[-1] = _with_way_out(problems.texts[-1])
                disputed.add(overlay.name)
            self._judge(_with_way_out(error[0]) if error else None, overlay.name)
        return disputed

    def _settle(self, overlay: Overlay, mine: Sequence[AgentSubnet]) -> None:
        """Forget an overlay that the registry lacks, or has otherwise; put it back there where it is in use here."""
        if self._forgotten_or_put_back(overlay, mine) is None:
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


def _with_way_out(problem: str) -> str:
    """Say how a host gets out of it, unless the registry has said so already."""
    return problem if "docker network rm" in problem else f"{problem}; {_WAY_OUT}"


class _Collected:
    """Problems of parts that do not keep the others from going on; a registry that cannot be had is none."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @contextmanager
    def of(self, subject: str) -> Iterator[list[str]]:
        """Collect what goes wrong inside; the list that is given has it behind that."""
        said: list[str] = []
        try:
            yield said
        except (Refused, Exhausted) as error:
            said.append(str(error))
            self.texts.append(f"{subject}: {error}")
