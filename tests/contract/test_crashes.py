# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the real plugin between any two writes to store or kernel: nothing is lost, leaked or given twice.

After each crash dockerd does what it does after an error, the collector looks, and all must be as dockerd has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address

import pytest

from dni_driver.agent.collector import Collector
from dni_driver.agent.ports import Time
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

pytestmark = pytest.mark.root

A_DAY = 86400.0
MOST_WRITES = 60


class Host:
    """The plugin, the engine that asks it, and the part of the agent that puts right what neither can."""

    def __init__(self, plugin: Plugin, kernel: Kernel) -> None:
        """Begin with one container that lives through it all."""
        self.plugin = plugin
        self.engine = plugin.engine()
        self._kernel = kernel
        self._collector = Collector(plugin.store, kernel, Sightings(Graces()), Time())

    def dies_within(self, act: Callable[[Engine], object], writes: int) -> bool:
        """Act, and have the plugin die right after so many writes; tell whether it made as many."""
        self.plugin.tell("fuse", str(writes))
        with suppress(PluginError, Unreachable):
            act(self.engine)
        time.sleep(0.05)  # what is deleted in the background
        fuse = self.plugin.folder / "fuse"
        survived = fuse.exists()
        fuse.unlink(missing_ok=True)
        self.plugin.dockerd().call("Plugin.Activate")
        return not survived

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
            yield DockerNetwork(
                id=network.id,
                name=network.name,
                driver="dni",
                ipam_driver="dni",
                endpoints=tuple(endpoints),
                addresses=tuple(ip_address(pool.gateway.partition("/")[0]) for pool in network.pools),
                subnets=tuple(str(pool.subnet) for pool in network.pools),
            )

    def is_whole(self) -> None:
        """Do as the agent does: collect and mend. Then records, kernel and Docker must agree to the last bit."""
        namespace = self.plugin.namespace
        assert namespace is not None
        docker = self.docker()
        namespace.run(self._collector.free, leaks(read_all(self.plugin.store), docker), docker)
        namespace.run(self._kernel.drain)
        namespace.run(self._kernel.reconcile, lambda: wanted(read_all(self.plugin.store)))
        eventually(lambda: self._complaints(docker) == [], "not whole", lambda: str(self._complaints(docker)))
        held = {
            str(one.address) for one in read_all(self.plugin.store).addresses if one.state is not AddressState.FREE
        }
        shown = {
            str(address) for network in docker.networks for one in network.endpoints for address in one.addresses
        }
        assert held == shown

    def _complaints(self, docker: DockerView) -> list[str]:
        records = read_all(self.plugin.store)
        target = wanted(records)
        assert self.plugin.namespace is not None
        seen = self.plugin.namespace.run(self._kernel.observe, target)
        found = findings(records, seen, docker, target, time.time() + A_DAY)
        return [f"{one.about} {one.problem}" for one in found]


@pytest.fixture
def host(real: Plugin) -> Iterator[Host]:
    kernel = Kernel(real.folder / "run")
    try:
        yield Host(real, kernel)
    finally:
        (real.folder / "fuse").unlink(missing_ok=True)
        kernel.close()


def _create(engine: Engine) -> None:
    engine.create("dcos")


def _define(engine: Engine) -> None:
    engine.create("dev", subnets=["10.70.0.0/16"], ipam_options={"overlay": "dev"})


def _run(engine: Engine) -> None:
    engine.run("a", "dcos", ports=[8080])


def _stop(engine: Engine) -> None:
    engine.stop("a")


def _restart(engine: Engine) -> None:
    engine.restart("a")


def _remove(engine: Engine) -> None:
    engine.remove("dcos")


LIFE: dict[str, tuple[tuple[Callable[[Engine], None], ...], Callable[[Engine], None]]] = {
    "create": ((), _create),
    "define": ((), _define),
    "run": ((_create,), _run),
    "restart": ((_create, _run), _restart),
    "stop": ((_create, _run), _stop),
    "remove": ((_create,), _remove),
}
"""What was done before, and what the plugin dies of."""


@pytest.mark.parametrize("name", LIFE)
def test_a_plugin_killed_after_any_write_leaves_nothing_that_is_not_put_right(host: Host, name: str) -> None:
    before, act = LIFE[name]
    for writes in range(1, MOST_WRITES):
        for done in before:
            done(host.engine)
        died = host.dies_within(act, writes)
        host.is_whole()
        _clear(host)
        if not died:
            assert writes > 2
            return
    pytest.fail(f"{name} makes more than {MOST_WRITES} writes")


def _clear(host: Host) -> None:
    """Take everything away; what the plugin lost on the way must be no hindrance."""
    for container in list(host.engine.containers):
        host.engine.delete(container)
    for network in list(host.engine.networks):
        host.engine.remove(network)
    host.is_whole()
    assert host.plugin.links() == host.plugin.bridges() == []
