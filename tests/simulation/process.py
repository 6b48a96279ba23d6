# SPDX-License-Identifier: Apache-2.0
"""The two programs of dni as processes that can end between any two writes, and start again on the same file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from dni_driver.agent.agent import Agent
from dni_driver.agent.cni import CniOptions
from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.agent.options import Options
from dni_driver.agent.ports import DockerEvent, Time
from dni_driver.agent.reconciler import Reconciler
from dni_driver.agent.room import Leasing
from dni_driver.core.addresses.reservations import Wish
from dni_driver.core.docker_networks import ListedNetwork
from dni_driver.core.errors import DniError, KernelError, Refused, Unavailable
from dni_driver.core.mesos.cni_wish import CniKey, CniReport, CniWish
from dni_driver.core.overlays import AgentSubnet, Family, Overlay
from dni_driver.core.records import Records
from dni_driver.core.views import DockerView
from dni_driver.core.wanted import wanted
from dni_driver.plugin.app import create_app
from dni_driver.plugin.ipam_driver import IpamDriver
from dni_driver.plugin.network_driver import NetworkDriver
from dni_driver.plugin.pool_finder import Cluster
from dni_driver.registry.local import LocalRegistry
from dni_driver.store import Store, overlays
from dni_driver.store.records import read_all
from tests.fakes import AGENT, FakeKernel
from tests.simulation.plans import DCOS

T = TypeVar("T")

NO_ANSWER = "the agent does not answer"


class Died(BaseException):
    """A process ended here, as by kill -9."""


class Unreachable(Exception):  # noqa: N818 - named for what the caller meets
    """Nobody listens."""


class Fuse:
    """Ends a process at one of the points it reaches: the n-th from when it was lit."""

    def __init__(self) -> None:
        """Begin unlit."""
        self._left = 0

    def light(self, points: int) -> None:
        """End the process at the `points`-th point from now."""
        self._left = points

    def put_out(self) -> None:
        """Let the process live."""
        self._left = 0

    def __call__(self, _: str) -> None:
        """Reach a point."""
        if self._left:
            self._left -= 1
            if not self._left:
                raise Died


@contextmanager
def at_the_mercy_of(fuse: Fuse, kernel: FakeKernel) -> Iterator[None]:
    """Let a fuse end whoever changes the kernel in here."""
    before, kernel.crash_point = kernel.crash_point, fuse
    try:
        yield
    finally:
        kernel.crash_point = before


class PluginProcess:
    """`dni serve plugin`: its socket outlives it, its memory does not."""

    def __init__(self, path: Path, kernel: FakeKernel, time: Time, cluster: Cluster) -> None:
        """Take the file, the kernel and the clocks; of the cluster it asks for a new overlay. Start it."""
        self._path = path
        self._kernel = kernel
        self._time = time
        self._cluster = cluster
        self.fuse = Fuse()
        self._client: Any = None
        self._network: NetworkDriver | None = None
        self._store: Store | None = None
        self.start()

    @property
    def up(self) -> bool:
        """Tell whether it runs."""
        return self._client is not None

    def start(self) -> None:
        """Open the store, mend the kernel, and only then answer."""
        self.fuse.put_out()
        self._store = store = Store(self._path, crash_point=self.fuse)
        with suppress(DniError):
            self._kernel.reconcile(lambda: wanted(read_all(store)))
        self._network = network = NetworkDriver(store, self._kernel, self._time.clock, self._time.sleep)
        self.keep_ports()
        ipam = IpamDriver(store, self._kernel, self._cluster, DCOS.name, self._time.clock, self._time.sleep)
        self._client = create_app(network, ipam).test_client()

    def keep_ports(self) -> None:
        """Do what the plugin does every ten seconds."""
        if self._network is not None:
            assert self._network.keep_ports() == []

    def end(self) -> None:
        """Be gone, with all that is in memory and all that it held; the rest of the kernel stays."""
        self.fuse.put_out()
        self._network = None
        self._kernel.held.clear()
        self._client = None
        if self._store is not None:
            self._store.close()

    def answer(self, method: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Answer a call with its status and JSON; raise Unreachable, or Died where it ends half-way."""
        if self._client is None:
            raise Unreachable(method)
        try:
            with at_the_mercy_of(self.fuse, self._kernel):
                response = self._client.post(f"/{method}", data=body)
        except Died:
            self.end()
            raise
        return response.status_code, msgspec.json.decode(response.data, type=dict[str, Any])


class EngineApi(Protocol):
    """What dockerd shows over its API at a moment; None while it is down."""

    def __call__(self) -> DockerView | None:
        """Answer it."""


class DockerApi:
    """dockerd as the agent asks it."""

    def __init__(self, show: EngineApi) -> None:
        """Take what it shows."""
        self.show = show

    def version(self) -> str:
        """Answer a version; raise Unavailable while it is down."""
        return "simulated"

    def view(self, _: Records) -> DockerView:
        """Answer what it shows; raise Unavailable while it is down."""
        shown = self.show()
        if shown is None:
            raise Unavailable("dockerd does not answer")
        return shown

    def listed(self) -> list[ListedNetwork]:
        """List nothing: the simulated agent makes no networks, so nobody asks."""
        return []

    def create_network(self, body: dict[str, Any]) -> None:
        """Refuse: here users make all networks."""
        raise Refused(f"not made: {body}")

    def remove_network(self, network: str) -> None:
        """Refuse: here users remove all networks."""
        raise Refused(f"not removed: {network}")

    def events(self) -> Iterator[DockerEvent]:
        """Tell nothing: in the simulation the agent looks when it is told to."""
        return iter(())

    def close(self) -> None:
        """End nothing."""


class AgentProcess:
    """`dni serve agent`, without the threads that do its steps again and again."""

    def __init__(self, path: Path, kernel: FakeKernel, docker: DockerApi, time: Time) -> None:
        """Start it for the first time."""
        self._path = path
        self._kernel = kernel
        self._docker = docker
        self._time = time
        self.fuse = Fuse()
        self.restart()

    def restart(self) -> None:
        """Begin anew: what it saw before is forgotten; take up what the registry says, and mend the kernel."""
        self.fuse.put_out()
        self._store = Store(self._path, crash_point=self.fuse)
        self._registry = LocalRegistry(self._path.with_name("registry.db"))
        self.agent = Agent(
            store=self._store,
            kernel=self._kernel,
            registry=self._registry,
            docker=self._docker,
            options=Options(
                default_overlay=DCOS, agent_ip=AGENT, create_networks=False, cni=CniOptions(ipam="dni", held=())
            ),
            time=self._time,
        )
        identity = Identity(self._store, self._kernel.agent_address, AGENT)
        self._joining = Joining(self._store, self._registry, identity, DCOS, self._time.clock)
        self._reconciler = Reconciler(self._store, self._kernel)
        self._room = Leasing(
            self._store, self._registry, identity, self._reconciler.mend, self._joining.in_turn, self._time
        )
        self.join()
        with suppress(DniError):
            self.mend()

    def end(self) -> None:
        """Close the store."""
        self._store.close()

    def define(self, overlay: Overlay) -> None:
        """Define an overlay, as a person asks it to (POST /v1/overlays)."""
        self._surviving(lambda: self.agent.define_overlay(overlay))

    def try_out(self, overlay: Overlay) -> None:
        """Define an overlay for a network that is being created, as the plugin asks it to."""
        self._surviving(lambda: self.agent.try_overlay(overlay))

    def remove(self, overlay: str) -> None:
        """Remove an overlay, as the plugin asks it to (DELETE /v1/overlays/NAME)."""
        self._surviving(lambda: self.agent.remove_overlay(overlay))

    def join(self) -> None:
        """Take part in the overlays that the registry has."""
        self._surviving(self._joining.join)

    def look(self) -> None:
        """Look at Docker, note names, and free what is due; likewise of what the runtime of CNI has left."""
        self._surviving(self.agent.look)
        self._surviving(self.agent.cni.round)

    def attach(self, wish: CniWish) -> CniReport:
        """Do as dni-cni asks at ADD."""
        return self._surviving(lambda: self.agent.cni.attach(wish))

    def detach(self, key: CniKey) -> None:
        """Do as dni-cni asks at DEL."""
        self._surviving(lambda: self.agent.cni.detach(key))

    def mend(self) -> None:
        """Make the kernel agree with the store; after a refusal again, as its loop does."""
        with suppress(KernelError):
            self._surviving(self._reconciler.round)
            return
        self._surviving(self._reconciler.round)

    def make_room(self) -> None:
        """See whether room is scarce, or something needed no more."""
        self._surviving(self._room.look)

    def leased(self) -> set[AgentSubnet]:
        """Answer what the registry says that it holds."""
        return {lease.held for lease in self._registry.leases(AGENT)}

    def repair(self) -> None:
        """Do as `dni repair` asks."""
        self._surviving(self.agent.repair)

    def reserve(self, wish: Wish) -> None:
        """Do as `dni address reserve` asks."""
        self._surviving(lambda: self.agent.reserve(wish))

    def release(self, wish: Wish) -> None:
        """Do as `dni address release` asks."""
        self._surviving(lambda: self.agent.release(wish))

    def lease_more(self, name: str, family: Family) -> None:
        """Lease one more agent subnet, and put its gateway on the bridge."""

        def take() -> None:
            held = self._registry.lease(name, family, AGENT)
            with self._store.write() as tx:
                overlays.add_agent_subnet(tx, held)

        self._surviving(take)
        self.mend()

    def _surviving(self, act: Callable[[], T]) -> T:
        """Act; an agent that ends half-way is started again, and whoever asked it has no answer."""
        try:
            with at_the_mercy_of(self.fuse, self._kernel):
                return act()
        except Died:
            self._store.close()
            self.restart()
            raise Unavailable(NO_ANSWER) from None
