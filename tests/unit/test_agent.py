# SPDX-License-Identifier: Apache-2.0
"""The agent as a whole: what it does by itself, as Docker, links and overlays change."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_network
from pathlib import Path

import msgspec
import pytest

from dni_driver.agent import reconciler, rounds
from dni_driver.agent.options import Options
from dni_driver.agent.ports import DockerEvent
from dni_driver.core.addresses.reservations import read_wish
from dni_driver.core.errors import KernelError
from dni_driver.core.invariants.collection import Graces
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.reports import DockerReport, NetworkReport
from dni_driver.store.records import read_all
from tests.fakes import AGENT, DCOS
from tests.scratch import fast_directory
from tests.unit.agents import NETWORK, create_network, shown
from tests.unit.world import DEV, PATIENCE, World, eventually, new, running, unhurried, world

__all__ = ["new", "running", "unhurried", "world"]


def test_a_started_agent_joins_mends_the_kernel_and_looks_at_docker(running: World) -> None:
    assert eventually(lambda: running.agent.status().agent == str(AGENT))
    assert running.kernel.reconciled.wait(PATIENCE)
    assert eventually(lambda: running.agent.status().docker.reachable)
    assert eventually(lambda: [overlay.name for overlay in running.agent.overlays()] == ["dcos"])
    assert running.agent.status().problems == []


def test_what_the_plugin_notes_is_on_disk_soon(running: World) -> None:
    assert eventually(lambda: running.agent.status().agent == str(AGENT))
    with running.store.note() as tx:
        tx.execute("INSERT INTO meta VALUES ('noted by the plugin', '')")
    assert eventually(lambda: b"noted by the plugin" in running.store.path.read_bytes())


def test_an_event_of_docker_has_it_looked_at_and_a_reload_has_the_kernel_mended(new: World) -> None:
    new.docker.news = [DockerEvent("daemon", "reload")]
    new.agent.start()
    assert new.docker.looked.wait(PATIENCE)
    new.agent.stop()
    assert new.kernel.reconciled.is_set()


@pytest.mark.usefixtures("unhurried")
def test_news_of_links_are_looked_into_at_once(running: World) -> None:
    """Not with the next look, seconds later."""
    for _ in range(5):
        running.kernel.reconciled.clear()
        running.kernel.tell_news()
        assert running.kernel.reconciled.wait(PATIENCE)


def test_a_docker_that_is_away_is_told_once_and_harms_nothing(new: World) -> None:
    new.docker.away = "dockerd does not answer at /run/docker.sock: Connection refused"
    new.agent.start()
    assert eventually(lambda: new.agent.status().docker.error == new.docker.away)
    status = new.agent.status()
    new.agent.stop()
    assert status.docker == DockerReport(reachable=False, error=new.docker.away)
    assert status.problems == []


def test_a_kernel_that_refuses_is_a_problem_until_it_obeys(new: World) -> None:
    new.kernel.refusals = [KernelError("nft: not found")] * 1000
    new.agent.start()
    assert eventually(lambda: new.agent.status().problems == ["nft: not found"])
    new.kernel.refusals.clear()
    assert eventually(lambda: new.agent.status().problems == [])
    new.agent.stop()


def test_an_agent_stops_soon_and_one_that_never_started_can_be_stopped(
    running: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "_STOP_SECONDS", 2 * PATIENCE)
    assert eventually(lambda: running.agent.status().docker.reachable)
    begun = time.monotonic()
    running.agent.stop()
    assert time.monotonic() - begun < PATIENCE, "a loop was waited for in vain"
    with fast_directory() as directory:
        idle = World(Path(directory))
        idle.agent.stop()
        idle.store.close()


def test_nothing_is_watched_for_longer_than_the_grace() -> None:
    assert Options(default_overlay=DCOS).graces() == Graces(claim=120, endpoint=900, network=30)
    assert Options(default_overlay=DCOS, grace=2).graces() == Graces(claim=2, endpoint=2, network=2)


def test_a_look_takes_names_over(world: World) -> None:
    world.run_containers()
    world.agent.look()
    web, db = world.agent.addresses("dcos", with_free=False)
    assert (web.container, web.network, web.state, web.overlay) == ("web", "dcos", "bound", "dcos")
    assert db.container == "db"
    assert world.agent.overlays()[0].network == NetworkReport(id=NETWORK, name="dcos")


def test_networks_follow_the_underlay_record_first(world: World) -> None:
    world.run_containers()
    world.kernel.underlay_mtu = 1400
    world.agent.repair()
    (network,) = read_all(world.store).networks
    assert network.mtu == 1350
    assert {bridge.mtu for bridge in world.kernel.bridges.values()} == {1350}
    assert {link.mtu for link in world.kernel.links.values()} == {1350}
    assert world.agent.check() == []


def test_a_given_mtu_that_no_longer_fits_is_told_and_left(new: World) -> None:
    new.agent.define_overlay(DCOS)
    new.run_containers()
    with new.store.write() as tx:
        tx.execute("UPDATE network SET options = '{\"mtu\": 1450}'")
    new.kernel.underlay_mtu = 1400
    told = "mtu=1450 does not fit: eth0 has 1400, VXLAN takes 50: at most 1350"
    assert [finding.problem for finding in new.agent.check()] == [told]
    new.agent.start()
    assert eventually(lambda: f"network dcos: {told}" in new.agent.status().problems)
    new.agent.stop()
    assert [network.mtu for network in read_all(new.store).networks] == [1450]


def test_a_peer_that_the_backend_does_not_reach_is_a_problem(new: World, monkeypatch: pytest.MonkeyPatch) -> None:
    new.agent.define_overlay(msgspec.structs.replace(DCOS, backend="direct"))
    far = Peer(
        agent_ip=IPv4Address("10.0.1.2"),
        vtep=Vtep(IPv4Interface("44.128.0.2/20")),
        subnets=(AgentSubnet(overlay="dcos", subnet=IPv4Network("9.0.2.0/24")),),
    )
    monkeypatch.setattr(reconciler, "read_all", lambda store: msgspec.structs.replace(read_all(store), peers=[far]))
    new.agent.start()
    told = "overlay dcos: backend direct does not reach agent 10.0.1.2, behind a router: auto would, by VXLAN"
    assert eventually(lambda: told in new.agent.status().problems)
    new.agent.stop()


def test_where_no_link_carries_the_agent_ip_networks_keep_their_mtu(new: World) -> None:
    new.agent.define_overlay(DCOS)
    new.run_containers()
    new.kernel.lost_underlay = KernelError("no link of this host carries the agent IP")
    new.agent.start()
    assert eventually(lambda: new.agent.status().problems == ["no link of this host carries the agent IP"])
    new.agent.stop()
    assert [network.mtu for network in read_all(new.store).networks] == [1450]


@pytest.mark.usefixtures("unhurried")
def test_a_change_of_overlays_is_followed_by_the_kernel_at_once(running: World) -> None:
    """The firewall lists the subnets of all; the kernel's own pace is five seconds."""
    assert eventually(lambda: [overlay.name for overlay in running.agent.overlays()] == ["dcos"])
    for change in (lambda: running.agent.define_overlay(DEV), lambda: running.agent.remove_overlay("dev")):
        assert running.kernel.reconciled.wait(PATIENCE)
        time.sleep(0.1)
        running.kernel.reconciled.clear()
        change()
        assert running.kernel.reconciled.wait(PATIENCE)


def test_a_network_of_dockers_that_the_store_has_lost_is_a_problem_until_it_is_gone(world: World) -> None:
    """The store was removed, or another one put in its place: it may not pass for a new host in silence."""
    world.docker.networks = (shown(),)
    (problem,) = world.agent.look()
    assert problem.startswith("network dcos is in Docker, but dni has no record of it: docker network rm dcos")
    assert "put back a copy" in problem
    world.docker.networks = ()
    assert list(world.agent.look()) == []


def test_a_network_created_between_the_two_looks_is_none(world: World) -> None:
    world.docker.networks = (shown(),)
    world.docker.when_asked = lambda: create_network(world.store, world.clock.now)
    assert list(world.agent.look()) == []


def test_a_half_that_is_all_but_full_is_a_problem_in_the_status(new: World) -> None:
    new.agent.define_overlay(define("one", [ip_network("10.64.0.0/24")]))
    new.agent.reserve(read_wish("one", "10.64.0.130-10.64.0.250"))
    new.agent.start()
    assert eventually(lambda: any("95 % full" in problem for problem in new.agent.status().problems))
    new.agent.stop()
