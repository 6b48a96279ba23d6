# SPDX-License-Identifier: Apache-2.0
"""Starts go on when this host's part of an overlay is used up: over the wire, with the agent watching beside."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from ipaddress import IPv4Network, ip_interface
from pathlib import Path

import pytest

from dni_driver.agent.identity import Identity
from dni_driver.agent.loop import Loop
from dni_driver.agent.loops import ROOM
from dni_driver.agent.problems import Problems
from dni_driver.agent.room import EMPTY_SECONDS, IDLE_SECONDS, Leasing
from dni_driver.core.names import docker_bridge
from dni_driver.core.overlays import define
from dni_driver.core.wanted import Link, wanted
from dni_driver.registry.local import LocalRegistry
from dni_driver.store import Store, overlays
from dni_driver.store.records import read_all
from tests.contract.dockerd import PluginError
from tests.contract.plugin import Plugin
from tests.fakes import AGENT, DCOS, FakeClock, lease
from tests.members import joined
from tests.unit.agents import frozen

CONTAINERS, CALLERS = 400, 16
ROOM_IN_A_HALF = 125


class Agent:
    """What the agent does about room on the plugin's store; its clock stands still until a test moves it."""

    def __init__(self, plugin: Plugin, directory: Path) -> None:
        """Have the registry agree with what the plugin has been given already."""
        self.store = Store(plugin.folder / "dni.db")
        self.registry = LocalRegistry(directory / "registry.db")
        joined(self.registry, AGENT)
        for overlay in read_all(self.store).overlays:
            self.registry.define(overlay)
            self.registry.lease(overlay.name, 4, AGENT)
        self.clock = FakeClock()
        self._plugin = plugin
        identity = Identity(self.store, lambda: AGENT, AGENT)
        self.room = Leasing(self.store, self.registry, identity, self._mend, nullcontext, frozen(self.clock))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look as often as the agent does."""
        loop = Loop("room", ROOM, Problems())
        loop.start(self.room.look)
        try:
            yield
        finally:
            loop.stop()
            loop.join(60)

    def leased(self) -> list[str]:
        """Answer what the registry says that this agent holds."""
        return [str(lease.held.subnet) for lease in self.registry.leases(AGENT)]

    def _mend(self) -> None:
        """Have the kernel follow: an unknown network is deleted by reconciling."""
        self._plugin.dockerd().call("NetworkDriver.DeleteNetwork", {"NetworkID": "0" * 64})


@pytest.fixture
def agent(plugin: Plugin, tmp_path: Path) -> Iterator[Agent]:
    """Give the agent beside a plugin."""
    agent = Agent(plugin, tmp_path)
    yield agent
    agent.store.close()


def request(plugin: Plugin, pool: str = "dcos/v4") -> str:
    """Have dockerd ask for an address; it may wait, as dockerd does."""
    return str(plugin.dockerd(second=1).call("IpamDriver.RequestAddress", {"PoolID": pool})["Address"])


def test_a_host_gives_more_addresses_than_its_first_half_has_and_gives_back_what_it_needs_no_more(
    plugin: Plugin, agent: Agent
) -> None:
    """400 containers' addresses by 16 callers at once, none refused; then all are released, and an hour goes by."""
    plugin.engine().create("dcos")
    with agent.watching(), ThreadPoolExecutor(CALLERS) as callers:
        given = list(callers.map(lambda _: request(plugin), range(CONTAINERS)))
    assert len(set(given)) == CONTAINERS
    halves = {str(ip_interface(address).network) for address in given}
    assert halves == {f"9.0.{number}.128/25" for number in range(4)}
    assert agent.leased() == [f"9.0.{number}.0/24" for number in range(len(agent.leased()))]
    gateways = {f"9.0.{number}.129/25" for number in range(len(agent.leased()))}
    assert set(plugin.addresses_of(docker_bridge("dcos"))) == gateways

    for address in given:
        bare = address.partition("/")[0]
        plugin.dockerd().call("IpamDriver.ReleaseAddress", {"PoolID": "dcos/v4", "Address": bare})
    for _ in range(round(EMPTY_SECONDS / IDLE_SECONDS) + 10):
        agent.clock.pass_by(IDLE_SECONDS)
        assert agent.room.look() == []
    assert agent.leased() == ["9.0.0.0/24"]
    assert plugin.addresses_of(docker_bridge("dcos")) == ["9.0.0.129/25"]
    assert request(plugin).startswith("9.0.0."), "an address of what was given back"


def test_one_caller_alone_meets_no_refusal_either(light: Plugin, tmp_path: Path) -> None:
    """400 addresses, one after the other."""
    agent = Agent(light, tmp_path)
    light.engine().create("dcos")
    with agent.watching():
        given = [request(light) for _ in range(CONTAINERS)]
    assert len(set(given)) == CONTAINERS
    agent.store.close()


def test_a_container_in_a_later_half_is_told_the_gateway_of_that_half(plugin: Plugin, agent: Agent) -> None:
    """And the way to the whole overlay through it."""
    engine = plugin.engine()
    engine.create("dcos")
    for _ in range(ROOM_IN_A_HALF - 1):
        request(plugin)
    agent.room.look()
    engine.run("last", "dcos")
    engine.run("next", "dcos")
    assert (engine.ip("last"), engine.ip("next")) == ("9.0.0.254", "9.0.1.130")
    link = next(link for link in _links(plugin) if "9.0.1.130/25" in map(str, link.addresses))
    assert link.gateways == ("9.0.1.129",)
    assert [(str(route.subnet), route.gateway) for route in link.routes] == [("9.0.0.0/8", "9.0.1.129")]


def _links(plugin: Plugin) -> list[Link]:
    return list(wanted(read_all(plugin.store)).links)


def test_a_network_without_ipam_grows_too(light: Plugin, tmp_path: Path) -> None:
    """There the address is chosen in CreateEndpoint."""
    agent = Agent(light, tmp_path)
    engine = light.engine()
    engine.create("alone", ipam="null", options={"overlay": "dcos"})
    with agent.watching():
        for number in range(ROOM_IN_A_HALF + 5):
            engine.run(f"c{number}", "alone")
    assert engine.ip(f"c{ROOM_IN_A_HALF}") == "9.0.1.130"
    agent.store.close()


def test_only_a_full_overlay_refuses_a_start_and_does_so_at_once(light: Plugin, tmp_path: Path) -> None:
    """Two agent subnets of five containers each, and no third."""
    with light.store.write() as tx:
        overlays.remove(tx, DCOS.name)
    _lease_tiny(light)
    agent = Agent(light, tmp_path)
    light.engine().create("tiny", ipam_options={"overlay": "tiny"})
    with agent.watching():
        assert len({request(light, "tiny/v4") for _ in range(10)}) == 10
        agent.clock.pass_by(60)
        words = (
            r"no free address in the 2 Docker halves of overlay 'tiny' on agent 192.0.2.10: 10 of 10 used, "
            r"0 reserved, and overlay 'tiny' is full: all 2 agent subnets of /28 .*`dni address ls --overlay tiny`"
        )
        with pytest.raises(PluginError, match=words):
            request(light, "tiny/v4")
    agent.store.close()


def _lease_tiny(plugin: Plugin) -> None:
    lease(plugin.store, define("tiny", [IPv4Network("10.80.0.0/27")], (28, None)), "10.80.0.0/28")
