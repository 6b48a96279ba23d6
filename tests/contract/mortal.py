# SPDX-License-Identifier: Apache-2.0
"""A host on which dni's programs die between two writes, and what puts right what they left."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from ipaddress import ip_address

from dni_driver.agent.collector import Collector
from dni_driver.agent.ports import Time
from dni_driver.agent.reconciler import Reconciler
from dni_driver.core.invariants.check import findings
from dni_driver.core.invariants.collection import Graces, Sightings
from dni_driver.core.invariants.leaks import leaks
from dni_driver.core.records import AddressState
from dni_driver.core.views import DockerEndpoint, DockerNetwork, DockerView
from dni_driver.core.wanted import wanted
from dni_driver.kernel import Kernel
from dni_driver.store.records import read_all
from tests.contract.dockerd import PluginError, Unreachable
from tests.contract.engine import Engine
from tests.contract.plugin import Plugin, eventually
from tests.lab import procfs
from tests.root.ground import Namespace
from tests.root.town import plug

A_DAY = 86400.0
BACKGROUND_SECONDS = 0.5
"""A link takes a fiftieth of a second to be deleted."""
LEAP = 5.0
"""Seconds that pass for a kernel between two looks, as they do between two rounds of the agent."""


def leaping() -> Callable[[], float]:
    """Answer a clock by which every look is a round of the agent's."""
    return itertools.count(0.0, LEAP).__next__


class Host:
    """The plugin, the engine that asks it, and the part of the agent that puts right what neither can."""

    def __init__(self, plugin: Plugin, engine: Engine) -> None:
        """Begin with nothing but the default overlay."""
        assert plugin.namespace is not None
        self.plugin, self.engine = plugin, engine
        self.namespace = plugin.namespace
        self.fuse = plugin.folder / "fuse"
        self._kernel = Kernel(plugin.folder / "run", leaping())
        self._reconciler = Reconciler(plugin.store, self._kernel)
        self._collector = Collector(plugin.store, self._kernel, Sightings(Graces()), Time())
        self._sandboxes = ExitStack()

    def close(self) -> None:
        """Let go of what this test made."""
        self.fuse.unlink(missing_ok=True)
        self._sandboxes.close()
        self._kernel.close()

    def dies_within(self, act: Callable[[Host], object], writes: int) -> bool:
        """Act, and have the plugin die right after so many writes; tell whether it made as many."""
        self.plugin.tell("fuse", str(writes))
        with suppress(PluginError, Unreachable):
            act(self)
        survived = self._outlasts_what_is_deleted_in_the_background()
        self.fuse.unlink(missing_ok=True)
        self.plugin.dockerd(second=1).call("Plugin.Activate")
        return not survived

    def _outlasts_what_is_deleted_in_the_background(self) -> bool:
        """Tell whether the fuse is there still, when all that goes on behind an answer has had its time."""
        ends = time.monotonic() + BACKGROUND_SECONDS
        while self.fuse.exists() and time.monotonic() < ends:
            time.sleep(0.01)
        return self.fuse.exists()

    def end_worker(self) -> None:
        """End the plugin's worker; another one begins, and mends what it finds before it answers."""
        assert self.plugin.process is not None
        (worker,) = procfs.children(self.plugin.process.pid)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: worker not in procfs.children(self.plugin.process.pid), "the worker lives")  # type: ignore[union-attr]
        self.plugin.dockerd(second=1).call("Plugin.Activate")

    def plug(self, container: str, network: str, **options: str) -> None:
        """Run a container whose link libnetwork moves into a sandbox that there is, and the agent gets to know."""
        sandbox = self.sandbox()
        usual, self.engine.new_sandbox = self.engine.new_sandbox, lambda: sandbox.path
        self.engine.run(container, network, ports=[8080], driver_opts=options)
        self.engine.new_sandbox = usual
        (link,) = (one for one in wanted(read_all(self.plugin.store)).links if one.sandbox == sandbox.path)
        plug(self.namespace, link, sandbox)
        self.namespace.run(self._reconciler.round)

    def sandbox(self) -> Namespace:
        """Make a namespace for a container, until `clear`."""
        return self._sandboxes.enter_context(Namespace())

    def lose_links(self, *prefixes: str) -> None:
        """Delete links whose names begin so, as somebody with no idea does."""
        shown = self.namespace.sh("ip -o link show").splitlines()
        names = [line.split()[1].rstrip(":").partition("@")[0] for line in shown]
        self.namespace.sh(*(f"ip link del {name}" for name in names if name.startswith(prefixes)))

    def lose_tables(self) -> None:
        """Flush the firewall."""
        self.namespace.sh("nft flush ruleset")

    def lose_everything(self) -> None:
        """Delete bridges, links, devices and tables."""
        self.lose_links("d-", "dni", "dne")
        self.lose_tables()

    def docker(self) -> DockerView:
        """Answer what dockerd lists."""
        return DockerView(networks=tuple(self._listed()))

    def _listed(self) -> Iterator[DockerNetwork]:
        for network in self.engine.networks.values():
            endpoints = [
                DockerEndpoint(
                    id=one.id, container=container.name, addresses=tuple(a.ip for a in one.addresses.values())
                )
                for container in self.engine.containers.values()
                for one in container.endpoints.values()
                if one.network is network
            ]
            gateways = [pool.gateway.partition("/")[0] for pool in network.pools if pool.gateway]
            yield DockerNetwork(
                id=network.id,
                name=network.name,
                driver="dni",
                ipam_driver=network.ipam,
                endpoints=tuple(endpoints),
                addresses=tuple(map(ip_address, gateways)),
                subnets=tuple(str(pool.subnet) for pool in network.pools),
            )

    def is_whole(self) -> None:
        """Do as the agent does: collect and mend. Then records, kernel and Docker must agree to the last bit."""
        docker = self.docker()
        self.namespace.run(self._collector.free, leaks(read_all(self.plugin.store), docker), docker)
        self.namespace.run(self._kernel.drain)
        eventually(lambda: self._complaints(docker) == [], "not whole", lambda: str(self._complaints(docker)))
        addresses = read_all(self.plugin.store).addresses
        held = {str(one.address) for one in addresses if one.state is not AddressState.FREE}
        shown = {
            str(address) for network in docker.networks for one in network.endpoints for address in one.addresses
        }
        assert held == shown

    def _complaints(self, docker: DockerView) -> list[str]:
        self.namespace.run(self._reconciler.round)
        records = read_all(self.plugin.store)
        target = wanted(records)
        seen = self.namespace.run(self._kernel.observe, target)
        found = findings(records, seen, docker, target, time.time() + A_DAY)
        return [f"{one.about} {one.problem}" for one in found]

    def clear(self) -> None:
        """Take everything away; what the plugin lost on the way must be no hindrance. Then begin as a new host."""
        for container in list(self.engine.containers):
            self.engine.delete(container)
        for network in list(self.engine.networks):
            self.engine.remove(network)
        self.is_whole()
        assert self.plugin.links() == self.plugin.bridges() == []
        self._sandboxes.close()
        self.plugin.reset()
