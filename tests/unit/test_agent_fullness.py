# SPDX-License-Identifier: Apache-2.0
"""The agent counts what its host holds, and says in time that it runs out."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dni_driver.agent.fullness import Fullness
from dni_driver.core.data_plane.vteps import lowest_free
from dni_driver.core.errors import NotFound, Unavailable
from dni_driver.core.overlays import VTEP_SUBNET, Address, AgentSubnet
from dni_driver.core.peers import Peer
from dni_driver.core.records import AddressState
from dni_driver.registry import Host as NewAgent
from dni_driver.registry import Registry, open_registry
from dni_driver.store import Store, addresses, overlays, peers, pools
from tests.fakes import AGENT, DCOS, FakeClock
from tests.unit.agents import claim

OTHER = IPv4Address("192.0.2.77")


class Host:
    """A host that holds an agent subnet of dcos, and follows another that does."""

    def __init__(self, store: Store, directory: Path) -> None:
        """Have the first in the registry, and both in the store."""
        self.store = store
        self.clock = FakeClock()
        self.registry: Registry = open_registry("local", directory)
        self.registry.define(DCOS)
        self.registry.confirm(AgentSubnet(overlay="dcos", subnet=ip_network("9.0.0.0/24")), AGENT)
        self.registry.register(NewAgent(agent_ip=AGENT, identity="me", boot="b"))
        theirs = AgentSubnet(overlay="dcos", subnet=ip_network("9.0.1.0/24"))
        with store.write() as tx:
            peers.put(tx, [Peer(agent_ip=OTHER, vtep=lowest_free([], VTEP_SUBNET), subnets=(theirs,))])
            pools.use_overlay(tx, "dcos", 4, None, self.clock.now)
        self.cni = directory / "cni"
        self.fullness = Fullness(store, self.registry, self.clock, [self.cni])

    def fill(self, first: int, last: int) -> None:
        """Hand out addresses of the Docker half, by their last number."""
        for number in range(first, last + 1):
            claim(self.store, f"9.0.0.{number}", self.clock.now)

    def empty(self, first: int, last: int) -> None:
        """Take addresses back."""
        with self.store.write() as tx:
            for number in range(first, last + 1):
                addresses.free(tx, "dcos/v4", ip_address(f"9.0.0.{number}"), self.clock.now)


@pytest.fixture
def host(store: Store, tmp_path: Path) -> Iterator[Host]:
    host = Host(store, tmp_path)
    yield host
    host.registry.close()


def warned(host: Host) -> list[tuple[str, str, int]]:
    """Look once; answer what was warned of."""
    with capture_logs() as lines:
        host.fullness.look()
    return [(line["overlay"], line["half"], line["percent"]) for line in lines if line["log_level"] == "warning"]


def test_usage_tells_of_both_agents_and_dates_what_this_one_holds(host: Host) -> None:
    host.fullness.look()
    begun = host.clock.now
    host.clock.pass_by(3600)
    host.fullness.look()
    host.fill(130, 139)
    found = host.fullness.usage("dcos")
    (mine,), (theirs,) = (agent.subnets for agent in found.agents)
    assert (mine.subnet, mine.since, mine.docker.used, mine.docker.free) == ("9.0.0.0/24", begun, 10, 115)
    assert (theirs.subnet, theirs.since, theirs.docker.used) == ("9.0.1.0/24", None, None)
    assert found.problem is None


def test_a_given_back_subnet_loses_its_date_and_a_new_one_is_dated(host: Host) -> None:
    host.fullness.look()
    host.clock.pass_by(60)
    with host.store.write() as tx:
        overlays.remove(tx, "dual")
        overlays.add_agent_subnet(tx, AgentSubnet(overlay="dcos", subnet=ip_network("9.0.7.0/24")))
    host.fullness.look()
    with host.store.read() as tx:
        keys = [row["key"] for row in tx.execute("SELECT key FROM meta WHERE key LIKE 'held%' ORDER BY key")]
    assert keys == ["held_since/9.0.0.0/24", "held_since/9.0.7.0/24"]
    first, second = host.fullness.usage("dcos").agents[0].subnets
    assert (first.since, second.since) == (host.clock.now - 60, host.clock.now)


def test_the_mesos_half_is_counted_from_what_host_local_wrote(host: Host) -> None:
    (host.cni / "dcos").mkdir(parents=True)
    for name in ("9.0.0.2", "9.0.0.3", "9.0.0.200", "lock", "last_reserved_ip.0"):
        (host.cni / "dcos" / name).touch()
    (subnet,) = host.fullness.usage("dcos").agents[0].subnets
    assert (subnet.mesos.used, subnet.mesos.free) == (2, 123)
    assert host.fullness.room("dcos", None, "mesos", 124).room is False


def test_a_mesos_half_that_cannot_be_read_is_a_problem_and_unknown(host: Host) -> None:
    host.cni.mkdir()
    (host.cni / "dcos").touch()
    (problem,) = host.fullness.look()
    assert problem == f"the Mesos half cannot be counted: {host.cni}/dcos cannot be read (Not a directory)"
    (subnet,) = host.fullness.usage("dcos").agents[0].subnets
    assert (subnet.mesos.used, subnet.mesos.why) == (None, problem)
    assert {load.half for load in host.fullness.loads() if load.overlay == "dcos"} == {"docker"}


def test_eighty_percent_is_a_warning_once_and_ninety_five_a_problem(host: Host) -> None:
    host.fill(130, 228)
    assert warned(host) == []
    host.fill(229, 229)
    assert warned(host) == [("dcos", "docker", 80)]
    assert warned(host) == []
    host.empty(225, 229)
    assert warned(host) == []
    host.fill(225, 229)
    assert warned(host) == []
    host.fill(230, 248)
    (problem,) = host.fullness.look()
    assert problem.startswith("the Docker half of overlay 'dcos' on this host is 95 % full or more")
    host.empty(130, 200)
    assert host.fullness.look() == []
    host.fill(130, 200)
    host.empty(245, 248)
    assert warned(host) == [("dcos", "docker", 92)]


def test_usage_of_an_overlay_nobody_knows_is_refused(host: Host) -> None:
    with pytest.raises(NotFound, match="there is no overlay 'none'"):
        host.fullness.usage("none")


def test_nothing_that_grows_with_what_agents_hold_is_read_from_the_registry(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    for name in ("members", "leases", "overlays"):
        monkeypatch.setattr(host.registry, name, lambda *_, name=name: read.append(name))
    monkeypatch.setattr(host.registry, "alive", lambda: frozenset([OTHER]))
    host.fullness.usage("dcos")
    host.fullness.room("dcos", OTHER, "docker", 1)
    cluster = host.fullness.cluster()
    assert cluster is not None
    assert (cluster.alive, cluster.lost) == (1, 1)
    assert read == []


def test_while_the_registry_is_away_other_agents_are_as_they_were_last_and_that_is_told(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> frozenset[Address]:
        raise Unavailable("ZooKeeper does not answer")

    monkeypatch.setattr(host.registry, "alive", away)
    found = host.fullness.usage("dcos")
    assert [agent.agent for agent in found.agents] == [str(AGENT), str(OTHER)]
    assert found.problem == "other agents are listed as they were last: ZooKeeper does not answer"
    assert host.fullness.room("dcos", AGENT, "docker", 125).room is True
    asked = host.fullness.room("dcos", OTHER, "docker", 1)
    assert (asked.room, asked.free) == (None, None)
    assert host.fullness.cluster() is None


def test_leases_are_counted_by_holder(host: Host) -> None:
    cluster = host.fullness.cluster()
    assert cluster is not None
    assert (cluster.alive, cluster.lost) == (1, 1)
    assert {(one.overlay, one.here, one.count) for one in cluster.leases} == {
        ("dcos", True, 1),
        ("dual", True, 1),
        ("dcos", False, 1),
    }


def test_a_reserved_gateway_is_not_free(host: Host) -> None:
    claim(host.store, "9.0.0.130", host.clock.now, AddressState.RESERVED)
    (subnet,) = host.fullness.usage("dcos").agents[0].subnets
    assert (subnet.docker.used, subnet.docker.reserved, subnet.docker.free) == (0, 1, 124)
