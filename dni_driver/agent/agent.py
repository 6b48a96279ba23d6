# SPDX-License-Identifier: Apache-2.0
"""The agent: the background loops, and what the operator API asks of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from time import monotonic

import msgspec

from dni_driver import __version__
from dni_driver.agent.cluster import Cluster
from dni_driver.agent.cni import Cni
from dni_driver.agent.collector import Collector
from dni_driver.agent.dcos import DcosView
from dni_driver.agent.defining import Defining
from dni_driver.agent.following import Following
from dni_driver.agent.fullness import Fullness
from dni_driver.agent.hosted import Hosted
from dni_driver.agent.identity import Identity
from dni_driver.agent.inspection import Inspection
from dni_driver.agent.joining import Joining
from dni_driver.agent.labelling import Labelling
from dni_driver.agent.limiting import change_limits
from dni_driver.agent.loop import Loop, Pace
from dni_driver.agent.networking import Networking
from dni_driver.agent.options import Options
from dni_driver.agent.ports import Docker, Kernel, Time
from dni_driver.agent.presence import Presence
from dni_driver.agent.problems import Problems
from dni_driver.agent.reconciler import Reconciler
from dni_driver.agent.reserving import Reserving
from dni_driver.agent.room import Leasing
from dni_driver.agent.watcher import note_names
from dni_driver.agent.whereabouts import Whereabouts
from dni_driver.core import reports
from dni_driver.core.addresses.fullness import Half, OverlayUsage, Room
from dni_driver.core.addresses.reservations import Wish, strays
from dni_driver.core.cluster import AgentReport
from dni_driver.core.errors import DniError, Unavailable
from dni_driver.core.figures import Figures, endpoints_of
from dni_driver.core.invariants.collection import Sightings
from dni_driver.core.invariants.docker import unknown_networks
from dni_driver.core.invariants.finding import Finding
from dni_driver.core.mesos import dcos
from dni_driver.core.overlays import Address, Backend, Overlay
from dni_driver.core.records import ReservationRecord
from dni_driver.core.views import DockerView
from dni_driver.registry import Registry
from dni_driver.store import Store
from dni_driver.store.records import read_all

JOINING = Pace(every=60.0)
KERNEL = Pace(every=5.0, settle=0.1, rest=2.0)
DOCKER = Pace(every=30.0, settle=2.0, rest=4.0)
"""A look costs dockerd a list of all containers: it has four fifths of the time for itself, and news may gather."""
EVENTS = Pace(every=10.0)
CNI = Pace(every=10.0)
NETWORKS = Pace(every=1.0)
ROOM = Pace(every=0.25)
"""Most looks ask the store for a number, and no more."""
FILLING = Pace(every=10.0)
STORE = Pace(every=1.0)
HOSTED = Pace(every=30.0)
CLUSTER = Pace(every=5.0)
ADDRESS = Pace(every=5.0)

_JOINING_PART = "registry"
_CLUSTER_PART = "cluster"
_STOP_SECONDS = 5.0
_FIRST_SECONDS = 1.0
"""For how long everything else leaves the processor to joining: longer than that takes where the registry answers."""
_LOOK_SECONDS = 2.0
"""How long somebody who asks for addresses waits for the names that Docker has for them."""

_MOVES_THE_KERNEL = {("network", "create"), ("network", "destroy")}
"""Events of Docker after which our rules are others: they let Docker's own bridges be guarded by Docker's."""


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
        self._store = store
        self._kernel = kernel
        self._docker = docker
        self._options = options
        self._registry = registry
        self._identity = Identity(
            store, kernel.agent_address, options.agent_ip, options.reclaim_after, options.vtep_subnet
        )
        self._joining = Joining(store, registry, self._identity, options.default_overlay, time.clock)
        self._presence = Presence(store, registry, self._joining, options.reclaim_after, time)
        self._cluster = Cluster(store, registry)
        self._reserving = Reserving(store, time.clock)
        self._reconciler = Reconciler(store, kernel)
        self._labelling = Labelling(store, self._reconciler)
        self._leasing = Leasing(store, registry, self._identity, self._reconciler.mend, self._joining.in_turn, time)
        self._collector = Collector(store, kernel, Sightings(options.graces()), time)
        self._inspection = Inspection(store, kernel, docker, time)
        makes = options.makes_network
        self._networking = Networking(store, docker, makes, options.driver, time, made=self._tell_soon)
        self._defining = Defining(store, kernel, self._joining, self._networking, makes)
        self._fullness = Fullness(store, registry, time.clock)
        self._dockerd = reports.DockerReport(reachable=False, error="not asked yet")
        self._problems = Problems()
        self._dcos = DcosView(store, registry, lambda: self._problems.of(_JOINING_PART))
        self._hosted = Hosted(store, registry)
        self._stopping = threading.Event()
        self._kernel_loop = Loop("kernel", self._reconciler.round, KERNEL, self._problems)
        self._joining_loop = Loop(_JOINING_PART, self._join, JOINING, self._problems)
        self.cni = Cni(store, kernel, options.cni, time, self._mend_soon)
        self._cni_loop = Loop("cni", self.cni.round, CNI, self._problems)
        self._room_loop = Loop("room", self._leasing.look, ROOM, self._problems)
        self._networks_loop = Loop("docker networks", self._networking.look, NETWORKS, self._problems)
        self._docker_loop = Loop("docker", self.look, DOCKER, self._problems)
        self._store_loop = Loop("store", self._checkpoint, STORE, self._problems)
        self._news_loop = Loop("link news", self._listen, EVENTS, self._problems)
        self._events_loop = Loop("docker events", self._follow, EVENTS, self._problems)
        self._hosted_loop = Loop("mesos", self._hosted.look, HOSTED, self._problems)
        self._filling_loop = Loop("filling", self._fullness.look, FILLING, self._problems)
        self._following = Following(
            store,
            registry,
            self._identity,
            peers_changed=self._kernel_loop.wake,
            overlays_changed=self._joining_loop.wake,
            heard=lambda: self._problems.report(_CLUSTER_PART, ()),
        )
        self._following_loop = Loop(_CLUSTER_PART, self._following.follow, CLUSTER, self._problems)
        self._whereabouts = Whereabouts(self._identity, kernel.underlay, self._joining_loop.wake, time.monotonic)
        self._address_loop = Loop("address", self._whereabouts.look, ADDRESS, self._problems)
        self._presence_loop = Loop("presence", self._presence.tell, CLUSTER, self._problems)

    def start(self) -> None:
        """Start the loops: joining and following first, as the plugin and other hosts wait for that."""
        first, second, *others = self._loops()
        first.start()
        second.start()
        first.await_first(_FIRST_SECONDS)
        for loop in others:
            loop.start()

    def stop(self) -> None:
        """End the loops; return when their steps have ended, or after some seconds."""
        self._stopping.set()
        for loop in self._loops():
            loop.stop()
        self._docker.close()
        self._kernel.hush()
        self._following.stop()
        self._registry.close()
        ends = monotonic() + _STOP_SECONDS
        for loop in self._loops():
            loop.join(max(0.0, ends - monotonic()))

    def status(self) -> reports.Status:
        """Answer how this host is, networks by the names that Docker has for them now."""
        self._docker_loop.catch_up(_LOOK_SECONDS)
        agent_ip = self._identity.recorded()
        return reports.Status(
            version=__version__,
            agent=str(agent_ip) if agent_ip else None,
            registry=self._options.registry,
            docker=self._dockerd,
            store=str(self._store.path),
            overlays=self.overlays(),
            cluster=self._cluster.report(),
            problems=self._complaints(),
        )

    def overlays(self) -> list[reports.OverlayReport]:
        """Answer all overlays, by name."""
        return reports.overlay_reports(read_all(self._store))

    def agents(self) -> list[AgentReport]:
        """Answer all agents of the cluster."""
        return self._cluster.agents()

    def forget_agent(self, agent_ip: Address) -> None:
        """Forget an agent that is gone."""
        self._cluster.forget(agent_ip)

    def set_backend(self, name: str, backend: Backend) -> reports.OverlayReport:
        """Have an overlay's packets travel in another way from now on."""
        self._joining.set_backend(name, backend)
        self._kernel_loop.wake()
        return reports.overlay_report(read_all(self._store), name)

    def usage(self, name: str) -> OverlayUsage:
        """Answer how full an overlay is, agent by agent."""
        return self._fullness.usage(name)

    def room(self, overlay: str, agent: Address | None, half: Half, count: int) -> Room:
        """Answer whether some more containers find addresses on an agent."""
        return self._fullness.room(overlay, agent, half, count)

    def figures(self) -> Figures:
        """Answer what is counted, for monitoring."""
        return Figures(
            version=__version__,
            docker_reachable=self._dockerd.reachable,
            loads=self._fullness.loads(),
            endpoints=endpoints_of(read_all(self._store)),
            cluster=self._fullness.cluster(),
            problems=len(self._complaints()),
            candidates=self._collector.candidates,
            reclaimed=self._collector.reclaimed.count,
            kernel_changes=self._reconciler.changes.count,
        )

    def dcos_agent(self) -> dcos.Agent:
        """Answer what DC/OS asks of an agent."""
        return self._dcos.agent()

    def dcos_cluster(self) -> dcos.Cluster:
        """Answer what DC/OS asks of the leading master."""
        return self._dcos.cluster()

    def purge(self, agents: Sequence[Address]) -> dcos.Cluster:
        """Forget agents that are gone, and answer what is left."""
        self._dcos.purge(agents)
        return self._dcos.cluster()

    def define_overlay(self, overlay: Overlay) -> reports.OverlayReport:
        """Define an overlay in the whole cluster; on return it has its Docker network here, if it is to have one."""
        hindrance = self._defining.define(overlay)
        return msgspec.structs.replace(self._defined(overlay), hindrance=hindrance)

    def define_without_network(self, overlay: Overlay) -> reports.OverlayReport:
        """Define an overlay in the whole cluster; its Docker network on this host is left to the user."""
        self._defining.define_without_network(overlay)
        return self._defined(overlay)

    def try_overlay(self, overlay: Overlay) -> reports.OverlayReport:
        """Define an overlay for a Docker network that is being created."""
        self._defining.try_out(overlay)
        return self._defined(overlay)

    def _mend_soon(self) -> None:
        self._kernel_loop.wake()

    def _tell_soon(self) -> None:
        self._presence_loop.wake()

    def _defined(self, overlay: Overlay) -> reports.OverlayReport:
        """Report a new overlay; the firewall, which lists them all, follows at once."""
        self._kernel_loop.wake()
        self._cni_loop.wake()
        return reports.overlay_report(read_all(self._store), overlay.name)

    def remove_overlay(self, name: str) -> None:
        """Remove an overlay that nothing uses, with the Docker network that was made for it here."""
        self._hosted.check_removal(name)
        self.cni.check_vacant(name)
        is_default = name == self._options.default_name
        with nullcontext() if is_default else self._networking.withdrawing(name):
            self._joining.remove(name)
        self._cni_loop.wake()
        self._joining_loop.wake()
        self._kernel_loop.wake()

    def addresses(self, overlay: str | None, *, with_free: bool) -> list[reports.AddressReport]:
        """Answer who has which address, as Docker has it now."""
        self._docker_loop.catch_up(_LOOK_SECONDS)
        return list(reports.address_reports(read_all(self._store), overlay, with_free=with_free))

    def ports(self) -> list[reports.PortReport]:
        """Answer which ports of this host lead to which containers, by the names that Docker has for them now."""
        self._docker_loop.catch_up(_LOOK_SECONDS)
        return reports.port_reports(read_all(self._store))

    def reserve(self, wish: Wish) -> reports.ReservationReport:
        """Keep addresses back, knowing who has which as Docker has it now."""
        self._docker_loop.catch_up(_LOOK_SECONDS)
        made = self._reserving.reserve(wish)
        self._docker_loop.wake()
        return self._reservation_reports([made])[0]

    def release(self, wish: Wish) -> list[reports.ReservationReport]:
        """Give up what was kept back."""
        given_up = self._reserving.release(wish)
        self._docker_loop.wake()
        return self._reservation_reports(given_up)

    def limit(self, address: Address, limits: dict[str, int]) -> reports.AddressReport:
        """Change what the container that has an address may send (`egress`) and be sent (`ingress`) from now on."""
        change_limits(self._store, self._reconciler, address, limits)
        return reports.address_report(read_all(self._store), address)

    def check(self) -> list[Finding]:
        """Answer what is wrong with store, kernel and Docker."""
        return [*self._inspection.check(), *self.cni.findings()]

    def repair(self) -> reports.Repair:
        """Mend what can be mended now."""
        freed = self.cni.repair()
        report = self._inspection.repair(self._reconciler, self._collector)
        return msgspec.structs.replace(
            report, freed=[*freed, *report.freed], findings=[*report.findings, *self.cni.findings()]
        )

    def look(self) -> Sequence[str]:
        """Look at Docker once: take over names, free what is due; say who has not the address reserved for it."""
        records = read_all(self._store)
        try:
            version = self._docker.version()
            docker = self._docker.view(records)
        except Unavailable as error:
            self._dockerd = reports.DockerReport(reachable=False, error=str(error))
            self._collector.blind()
            raise
        self._dockerd = reports.DockerReport(reachable=True, version=version)
        note_names(self._store, records, docker)
        if self._collector.collect(records, docker):
            self._kernel_loop.wake()
        return [*self._lost(docker), *strays(read_all(self._store)), *self._labelling.look(docker)]

    def _complaints(self) -> list[str]:
        """Answer what is wrong in words, but for what is said of dockerd anyway."""
        return [problem for problem in self._problems.every() if problem != self._dockerd.error]

    def _join(self) -> Sequence[str]:
        """Take part in what there is; overlays may be others now, and the kernel with them."""
        for overlay in self._joining.vanished():
            with suppress(DniError):
                self._networking.withdraw(overlay)
        try:
            return self._joining.join()
        finally:
            for loop in (self._kernel_loop, self._networks_loop):
                loop.hurry()
            for loop in (self._presence_loop, self._cni_loop):
                loop.wake()

    def _lost(self, docker: DockerView) -> list[str]:
        """Say which networks Docker has that the store, read once more, does not know."""
        return [f"{one.about} {one.problem}: {one.mend}" for one in unknown_networks(read_all(self._store), docker)]

    def _reservation_reports(self, found: Sequence[ReservationRecord]) -> list[reports.ReservationReport]:
        records = read_all(self._store)
        return [reports.reservation_report(one, records) for one in found]

    def _follow(self) -> Sequence[str]:
        """Look again whenever something happens in Docker; mend the kernel when dockerd has come back."""
        events = self._docker.events()
        self._problems.report("docker events", ())
        self._docker_loop.wake()
        self._kernel_loop.wake()
        for event in events:
            self._docker_loop.wake()
            self._presence_loop.wake()
            self._networking.heed(event)
            if (event.kind, event.action) in _MOVES_THE_KERNEL or event.kind == "daemon":
                self._kernel_loop.wake()
        self._docker_loop.wake()
        if not self._stopping.is_set():
            raise Unavailable("dockerd has ended its events: it is being stopped or restarted")
        return ()

    def _listen(self) -> Sequence[str]:
        """Mend the kernel when links tell news of what it rests on."""
        for _ in self._kernel.link_news():
            self._kernel_loop.wake()
        return ()

    def _checkpoint(self) -> Sequence[str]:
        """Have on disk what the plugin has noted, and the log emptied before a call has to wait for that."""
        self._store.checkpoint()
        return ()

    def _loops(self) -> tuple[Loop, ...]:
        return (
            self._joining_loop,
            self._following_loop,
            self._presence_loop,
            self._address_loop,
            self._room_loop,
            self._kernel_loop,
            self._cni_loop,
            self._news_loop,
            self._docker_loop,
            self._networks_loop,
            self._events_loop,
            self._filling_loop,
            self._store_loop,
            self._hosted_loop,
        )
