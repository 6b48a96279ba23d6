# SPDX-License-Identifier: Apache-2.0
"""The agent: what it does in the background, and what the operator API asks of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dni_driver import __version__
from dni_driver.agent.cni import Cni
from dni_driver.agent.inspection import attempt, refusals
from dni_driver.agent.limiting import change_limits
from dni_driver.agent.loops import Loops
from dni_driver.agent.options import Options
from dni_driver.agent.parts import Ground, Parts
from dni_driver.agent.ports import Docker, Kernel, Time
from dni_driver.agent.problems import Problems
from dni_driver.agent.rounds import Rounds
from dni_driver.core import reports
from dni_driver.core.addresses.filling import half_report
from dni_driver.core.addresses.fullness import Half, OverlayUsage, Room
from dni_driver.core.addresses.reservations import Wish
from dni_driver.core.cluster import AgentReport
from dni_driver.core.figures import Figures, endpoints_of
from dni_driver.core.invariants.finding import Finding
from dni_driver.core.mesos import dcos
from dni_driver.core.overlays import Address, Backend, Overlay
from dni_driver.core.records import ReservationRecord
from dni_driver.registry import Registry
from dni_driver.store import Store
from dni_driver.store.records import read_all

_LOOK_SECONDS = 2.0
"""How long somebody who asks for addresses waits for the names that Docker has for them."""


class Agent:
    """What dni does in the background on this host. Its operations may be called from any thread."""

    def __init__(
        self,
        *,
        store: Store,
        kernel: Kernel,
        registry: Registry,
        docker: Docker,
        options: Options,
        time: Time = Time(),  # noqa: B008 - frozen
    ) -> None:
        """Do nothing yet."""
        ground = Ground(store=store, kernel=kernel, registry=registry, docker=docker, options=options, time=time)
        self._store = store
        self._options = options
        self._problems = Problems()
        self._loops = Loops(self._problems)
        self._parts = Parts(ground, self._loops, self._problems)
        self._rounds = Rounds(ground, self._parts, self._loops, self._problems)

    @property
    def cni(self) -> Cni:
        """Answer what is asked about the Mesos half."""
        return self._parts.cni

    def start(self) -> None:
        """Begin with what is done in the background."""
        self._rounds.start()

    def stop(self) -> None:
        """End it; return when what is under way has ended, or after some seconds."""
        self._rounds.stop()

    def status(self) -> reports.Status:
        """Answer how this host is, networks by the names that Docker has for them now."""
        self._loops.docker.catch_up(_LOOK_SECONDS)
        agent_ip = self._parts.identity.recorded()
        return reports.Status(
            version=__version__,
            agent=str(agent_ip) if agent_ip else None,
            registry=self._options.registry,
            docker=self._parts.docker_look.report,
            store=str(self._store.path),
            overlays=self.overlays(),
            cluster=self._parts.cluster.report(),
            problems=self._complaints(),
            halves=[half_report(load) for load in self._parts.fullness.loads()],
        )

    def overlays(self) -> list[reports.OverlayReport]:
        """Answer all overlays, by name."""
        return reports.overlay_reports(read_all(self._store))

    def agents(self) -> list[AgentReport]:
        """Answer all agents of the cluster."""
        return self._parts.cluster.agents()

    def forget_agent(self, agent_ip: Address) -> None:
        """Forget an agent that is gone; an overlay that is leaving may have waited for that."""
        self._parts.cluster.forget(agent_ip)
        self._loops.joining.wake()

    def set_backend(self, name: str, backend: Backend) -> reports.OverlayReport:
        """Have an overlay's packets travel in another way from now on."""
        self._parts.joining.set_backend(name, backend)
        self._loops.kernel.wake()
        return reports.overlay_report(read_all(self._store), name)

    def usage(self, name: str) -> OverlayUsage:
        """Answer how full an overlay is, agent by agent."""
        return self._parts.fullness.usage(name)

    def room(self, overlay: str, agent: Address | None, half: Half, count: int) -> Room:
        """Answer whether some more containers find addresses on an agent."""
        return self._parts.fullness.room(overlay, agent, half, count)

    def figures(self) -> Figures:
        """Answer what is counted, for monitoring."""
        return Figures(
            version=__version__,
            docker_reachable=self._parts.docker_look.report.reachable,
            loads=self._parts.fullness.loads(),
            endpoints=endpoints_of(read_all(self._store)),
            cluster=self._parts.fullness.cluster(),
            problems=len(self._complaints()),
            candidates=self._parts.collector.candidates,
            reclaimed=self._parts.collector.reclaimed.count,
            kernel_changes=self._parts.reconciler.changes.count,
        )

    def dcos_agent(self) -> dcos.Agent:
        """Answer what DC/OS asks of an agent."""
        return self._parts.dcos.agent()

    def dcos_cluster(self) -> dcos.Cluster:
        """Answer what DC/OS asks of the leading master."""
        return self._parts.dcos.cluster()

    def purge(self, agents: Sequence[Address]) -> dcos.Cluster:
        """Forget agents that are gone, and answer what is left."""
        self._parts.dcos.purge(agents)
        return self._parts.dcos.registered()

    def define_overlay(self, overlay: Overlay) -> reports.OverlayReport:
        """Define an overlay in the whole cluster; on return it has its Docker network here, if it is to have one."""
        hindrance = self._parts.defining.define(overlay)
        return msgspec.structs.replace(self._defined(overlay), hindrance=hindrance)

    def define_without_network(self, overlay: Overlay) -> reports.OverlayReport:
        """Define an overlay in the whole cluster; its Docker network on this host is left to the user."""
        self._parts.defining.define_without_network(overlay)
        return self._defined(overlay)

    def try_overlay(self, overlay: Overlay) -> reports.OverlayReport:
        """Define an overlay for a Docker network that is being created."""
        self._parts.defining.try_out(overlay)
        return self._defined(overlay)

    def _defined(self, overlay: Overlay) -> reports.OverlayReport:
        """Report a new overlay; the firewall, which lists them all, follows at once."""
        self._loops.kernel.wake()
        self._loops.cni.wake()
        return reports.overlay_report(read_all(self._store), overlay.name)

    def remove_overlay(self, name: str) -> None:
        """Remove an overlay that nothing uses, with the Docker networks that were made for it."""
        self._parts.hosted.check_removal(name)
        self._parts.cni.check_vacant(name)
        try:
            self._parts.removal.remove(name)
        finally:
            for loop in (self._loops.cni, self._loops.joining, self._loops.kernel):
                loop.wake()

    def keep_overlay(self, name: str) -> None:
        """Call the removal of an overlay off."""
        self._parts.removal.keep(name)
        self._loops.joining.wake()

    def addresses(self, overlay: str | None, *, with_free: bool) -> list[reports.AddressReport]:
        """Answer who has which address, as Docker has it now."""
        self._loops.docker.catch_up(_LOOK_SECONDS)
        return list(reports.address_reports(read_all(self._store), overlay, with_free=with_free))

    def ports(self) -> list[reports.PortReport]:
        """Answer which ports of this host lead to which containers, by the names that Docker has for them now."""
        self._loops.docker.catch_up(_LOOK_SECONDS)
        return reports.port_reports(read_all(self._store))

    def reserve(self, wish: Wish) -> reports.ReservationReport:
        """Keep addresses back, knowing who has which as Docker has it now."""
        self._loops.docker.catch_up(_LOOK_SECONDS)
        made = self._parts.reserving.reserve(wish)
        self._loops.docker.wake()
        return self._reservation_reports([made])[0]

    def release(self, wish: Wish) -> list[reports.ReservationReport]:
        """Give up what was kept back."""
        given_up = self._parts.reserving.release(wish)
        self._loops.docker.wake()
        return self._reservation_reports(given_up)

    def limit(self, address: Address, limits: dict[str, int]) -> reports.AddressReport:
        """Change what the container that has an address may send (`egress`) and be sent (`ingress`) from now on."""
        change_limits(self._store, self._parts.reconciler, address, limits)
        return reports.address_report(read_all(self._store), address)

    def check(self) -> list[Finding]:
        """Answer what is wrong with store, kernel and Docker."""
        return [*self._parts.inspection.check(), *self._parts.cni.findings()]

    def repair(self) -> reports.Repair:
        """Mend what can be mended now."""
        freed, refused = attempt(self._parts.cni.repair)
        report = self._parts.inspection.repair(self._parts.reconciler, self._parts.collector)
        left = [*refusals(refused), *report.findings, *self._parts.cni.findings()]
        return msgspec.structs.replace(report, freed=[*freed, *report.freed], findings=left)

    def look(self) -> Sequence[str]:
        """Look at Docker now; answer in words what is wrong there."""
        return self._parts.docker_look.look()

    def _complaints(self) -> list[str]:
        """Answer what is wrong in words, but for what is said of dockerd anyway."""
        return [problem for problem in self._problems.every() if problem != self._parts.docker_look.report.error]

    def _reservation_reports(self, found: Sequence[ReservationRecord]) -> list[reports.ReservationReport]:
        records = read_all(self._store)
        return [reports.reservation_report(one, records) for one in found]
