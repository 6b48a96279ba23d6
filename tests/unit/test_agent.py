# SPDX-License-Identifier: Apache-2.0
"""The agent as a whole: what it does by itself, and what it answers and does when people ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, ip_address, ip_network
from pathlib import Path

import msgspec
import pytest

from dni_driver import __version__
from dni_driver.agent import loops, reconciler, rounds
from dni_driver.agent.agent import Agent
from dni_driver.agent.inspection import PORTION
from dni_driver.agent.options import Options
from dni_driver.agent.ports import DockerEvent
from dni_driver.core.addresses.reservations import read_wish
from dni_driver.core.errors import KernelError, NotFound, NotMended, Refused
from dni_driver.core.invariants.collection import Graces
from dni_driver.core.local_subnets import LocalSubnet
from dni_driver.core.options.bandwidth import UNLIMITED, Limits
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.core.peers import Peer, Vtep
from dni_driver.core.records import AddressState, NetworkRecord
from dni_driver.core.reports import DockerReport, NetworkReport, Repair
from dni_driver.core.wanted import wanted
from dni_driver.registry import open_registry
from dni_driver.store import Store, addresses, local_subnets, networks, pools
from dni_driver.store.forget import forget_endpoint
from dni_driver.store.records import read_all
from tests.fakes import AGENT, DCOS, FakeClock
from tests.scratch import fast_directory
from tests.unit.agents import (
    DB,
    NETWORK,
    WEB,
    AgentsKernel,
    FakeDocker,
    claim,
    create_endpoint,
    create_network,
    frozen,
    shown,
)

DEV = define("dev", [ip_network("10.64.0.0/16"), ip_network("fd01:d::/64")])
PATIENCE = 60.0


class World:
    """An agent with all it meets."""

    def __init__(self, directory: Path) -> None:
        """Make it as on a new host."""
        self.clock = FakeClock()
        self.kernel = AgentsKernel()
        self.docker = FakeDocker()
        self.store = Store(directory / "dni.db")
        self.agent = Agent(
            store=self.store,
            kernel=self.kernel,
            registry=open_registry("local", directory),
            docker=self.docker,
            options=Options(default_overlay=DCOS),
            time=frozen(self.clock),
        )

    def run_containers(self) -> None:
        """Have two containers on dcos, everywhere."""
        create_network(self.store, self.clock.now)
        create_endpoint(self.store, WEB, "9.0.0.130", self.clock.now)
        create_endpoint(self.store, DB, "9.0.0.131", self.clock.now)
        self.docker.networks = (shown((WEB, "web", "9.0.0.130"), (DB, "db", "9.0.0.131")),)
        self.kernel_as_wanted()
        self.clock.pass_by(3600)

    def kernel_as_wanted(self) -> None:
        """Have the links that the plugin makes."""
        self.agent.repair()
        for link in wanted(read_all(self.store)).links:
            self.kernel.attach(link)

    def held(self) -> list[str]:
        """Answer the addresses that are not free."""
        records = read_all(self.store)
        return [str(record.address) for record in records.addresses if record.state is not AddressState.FREE]


@pytest.fixture
def new() -> Iterator[World]:
    with fast_directory() as directory:
        world = World(Path(directory))
        yield world
        world.store.close()


@pytest.fixture
def world(new: World) -> World:
    """Answer a host that has joined."""
    new.agent.define_overlay(DCOS)
    return new


def eventually(holds: Callable[[], bool]) -> bool:
    ends = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < ends:
        time.sleep(0.005)
    return holds()


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel looked at only when there is a reason, and not every five seconds as well."""
    monkeypatch.setattr(loops, "KERNEL", msgspec.structs.replace(loops.KERNEL, every=3600.0))


@pytest.fixture
def running(new: World) -> Iterator[World]:
    new.agent.start()
    yield new
    new.agent.stop()


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


def test_the_status_of_a_host_that_has_not_joined_says_so(new: World) -> None:
    status = new.agent.status()
    assert (status.version, status.agent, status.registry, status.overlays) == (__version__, None, "local", [])
    assert status.docker == DockerReport(reachable=False, error="not asked yet")
    assert status.store == str(new.store.path)


def test_overlays_are_reported_with_this_agents_part_and_how_full_it_is(world: World) -> None:
    world.run_containers()
    claim(world.store, "9.0.0.200", world.clock.now, AddressState.RESERVED)
    world.agent.define_overlay(DEV)
    dcos, dev = world.agent.overlays()
    assert (dcos.agent_subnets, dcos.mesos_halves, dcos.docker_halves) == (
        ["9.0.0.0/24"],
        ["9.0.0.0/25"],
        ["9.0.0.128/25"],
    )
    assert dcos.network == NetworkReport(id=NETWORK, name=NETWORK[:12])
    assert dcos.usage.v4 is not None
    assert (dcos.usage.v4.size, dcos.usage.v4.used, dcos.usage.v4.reserved, dcos.usage.v4.free) == (125, 2, 1, 122)
    assert dcos.usage.v6 is None
    assert dev.network is None
    assert dev.usage.v6 is not None
    assert dev.usage.v6.free == 2**47 - 2


@pytest.mark.parametrize("define_it", ["define_overlay", "define_without_network", "try_overlay"])
def test_an_overlay_on_what_the_host_reaches_directly_is_refused_and_defined_nowhere(
    world: World, define_it: str
) -> None:
    world.kernel.foreign["eth0"] = ip_network("192.0.2.0/24")
    lan = define("lan", [ip_network("192.0.0.0/16")])
    with pytest.raises(Refused, match=r"'lan' overlaps what this host reaches directly \(192\.0\.2\.0/24 on eth0\)"):
        getattr(world.agent, define_it)(lan)
    assert "lan" not in {overlay.name for overlay in world.agent.overlays()}
    world.agent.define_overlay(DEV)
    world.kernel.foreign["eth1"] = ip_network("10.64.0.0/16")
    world.agent.define_overlay(DEV)


def test_an_ipv6_only_overlay_is_reported_with_the_ipv4_it_has_here(world: World) -> None:
    world.agent.define_overlay(define("six", [ip_network("fd06::/64")]))
    local = LocalSubnet(overlay="six", subnet=IPv4Network("198.18.0.0/20"))
    gateway, gateway6 = IPv4Interface("198.18.0.1/20"), IPv6Interface("fd06::8000:0:1/81")
    network = NetworkRecord(
        id="6" * 64, overlay="six", options=NetworkOptions(), mtu=1450, gateway=gateway, gateway6=gateway6
    )
    with world.store.write() as tx:
        local_subnets.put(tx, local)
    assert world.agent.overlays()[-1].local_subnet is None, "nobody uses it yet"
    with world.store.write() as tx:
        pools.use_overlay(tx, "six", 4, None, world.clock.now)
        networks.add(tx, network)
        addresses.hold(tx, "six/v4", ip_address("198.18.0.2"), AddressState.CLAIMED, world.clock.now)
    six = world.agent.overlays()[-1]
    assert (six.local_subnet, six.docker_halves) == ("198.18.0.0/20", ["fd06::8000:0:0/81"])
    assert six.usage.v4 is not None
    assert (six.usage.v4.size, six.usage.v4.used) == (4093, 1)


def test_a_look_takes_names_over(world: World) -> None:
    world.run_containers()
    world.agent.look()
    web, db = world.agent.addresses("dcos", with_free=False)
    assert (web.container, web.network, web.state, web.overlay) == ("web", "dcos", "bound", "dcos")
    assert db.container == "db"
    assert world.agent.overlays()[0].network == NetworkReport(id=NETWORK, name="dcos")


def test_addresses_are_listed_by_overlay_and_free_ones_only_when_asked_for(world: World) -> None:
    world.run_containers()
    world.agent.define_overlay(DEV)
    with world.store.write() as tx:
        forget_endpoint(tx, DB, world.clock.now)
    assert [one.address for one in world.agent.addresses(None, with_free=False)] == ["9.0.0.130"]
    assert [one.address for one in world.agent.addresses("dcos", with_free=True)] == ["9.0.0.130", "9.0.0.131"]
    assert world.agent.addresses("dev", with_free=True) == []
    with pytest.raises(NotFound, match="no overlay 'none'"):
        world.agent.addresses("none", with_free=False)


def test_the_limits_of_a_running_container_are_changed_one_by_one(world: World) -> None:
    world.run_containers()
    web = ip_address("9.0.0.130")
    assert world.agent.limit(web, {"egress": 10_000_000}).egress == 10_000_000
    changed = world.agent.limit(web, {"ingress": 5_000_000})
    assert (changed.egress, changed.ingress) == (10_000_000, 5_000_000)
    assert Limits(egress=10_000_000, ingress=5_000_000) in {link.limits for link in world.kernel.links.values()}
    assert world.agent.limit(web, {"egress": UNLIMITED}).egress is None


def test_a_limit_that_the_kernel_cannot_keep_is_not_recorded(world: World) -> None:
    world.run_containers()
    world.kernel.refusals.append(KernelError("egress=10mbit needs ifb in this host's kernel"))
    with pytest.raises(KernelError, match="needs ifb"):
        world.agent.limit(ip_address("9.0.0.130"), {"egress": 10_000_000})
    assert {row.egress for row in world.agent.addresses("dcos", with_free=False)} == {None}


def test_a_limit_is_kept_although_another_overlays_bridge_cannot_be_mended(world: World) -> None:
    world.run_containers()
    world.kernel.refusals.append(NotMended([("d-other", "bridge d-other: Operation not permitted")]))
    assert world.agent.limit(ip_address("9.0.0.130"), {"egress": 10_000_000}).egress == 10_000_000


def test_nobody_can_be_limited_at_an_address_that_no_container_has(world: World) -> None:
    with pytest.raises(NotFound, match=r"no container on dni has address 9\.0\.0\.140: `dni address ls`"):
        world.agent.limit(ip_address("9.0.0.140"), {"egress": 10_000_000})


def test_a_removed_overlay_is_no_longer_reported(world: World) -> None:
    world.agent.define_overlay(DEV)
    world.agent.remove_overlay("dev")
    assert [overlay.name for overlay in world.agent.overlays()] == ["dcos"]


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


def test_check_is_clean_on_a_host_in_good_order_and_takes_one_look(world: World) -> None:
    world.run_containers()
    before = world.clock.now
    assert world.agent.check() == []
    assert world.clock.now == before


def test_check_tells_what_is_still_there_at_a_second_look(world: World) -> None:
    world.run_containers()
    world.kernel.bridges.clear()
    world.docker.networks = (shown((WEB, "web", "9.0.0.130")),)
    found = world.agent.check()
    assert [finding.about for finding in found] == ["d-dcos", f"endpoint {DB[:12]}"]


def test_check_does_not_tell_what_was_only_under_way(world: World) -> None:
    """The container ends just as it is looked at: Docker lists it no more, then the store has it no more."""
    world.run_containers()
    world.docker.networks = (shown((WEB, "web", "9.0.0.130")),)

    def end(seconds: float) -> None:
        world.clock.pass_by(seconds)
        with world.store.write() as tx:
            forget_endpoint(tx, DB, world.clock.now)
        world.kernel.links.popitem()

    world.agent._parts.inspection._time = type(frozen(world.clock))(clock=world.clock, sleep=end)  # noqa: SLF001
    assert world.agent.check() == []


def test_check_says_when_docker_or_kernel_could_not_be_asked(world: World) -> None:
    world.run_containers()
    world.docker.away = "dockerd is away"
    (finding,) = world.agent.check()
    assert (finding.about, finding.problem) == ("docker", "dockerd is away")


def test_repair_mends_the_kernel_and_frees_what_docker_does_not_have_within_seconds(world: World) -> None:
    world.run_containers()
    world.docker.networks = (shown((WEB, "web", "9.0.0.130")),)
    world.kernel.bridges.clear()
    before = world.clock.now
    repair = world.agent.repair()
    assert repair.changed[0] == "d-dcos"
    assert repair.freed == [f"endpoint {DB[:12]}: is recorded with 9.0.0.131, but Docker does not list it"]
    assert repair.findings == []
    assert world.held() == ["9.0.0.130"]
    assert world.kernel.detached == [DB]
    assert 2 <= world.clock.now - before < 10


def test_repair_does_nothing_where_nothing_is_wrong(world: World) -> None:
    world.run_containers()
    assert world.agent.repair() == Repair(changed=[], freed=[], findings=[])


@pytest.mark.parametrize("age", [0.0, 15.0, -86400.0])
def test_repair_leaves_alone_what_a_call_may_still_be_working_on(world: World, age: float) -> None:
    """Also what bears a date to come: the clock was set back, and its age is not known."""
    create_network(world.store, world.clock.now - 3600)
    world.docker.networks = (shown(),)
    claim(world.store, "9.0.0.140", world.clock.now - age)
    assert world.agent.repair().freed == []
    assert world.held() == ["9.0.0.140"]


def test_repair_leaves_alone_what_answers(world: World) -> None:
    world.run_containers()
    world.docker.networks = (shown((WEB, "web", "9.0.0.130")),)
    world.kernel.alive = {"9.0.0.131"}
    repair = world.agent.repair()
    assert repair.freed == []
    assert [finding.about for finding in repair.findings] == [f"endpoint {DB[:12]}"]


def test_repair_leaves_alone_what_docker_lists_at_the_second_look(world: World) -> None:
    world.run_containers()
    late, world.docker.networks = world.docker.networks, (shown((WEB, "web", "9.0.0.130")),)
    looks: list[None] = []

    def appear() -> None:
        looks.append(None)
        if len(looks) == 1:
            return
        world.docker.networks = late

    world.docker.when_asked = appear
    assert world.agent.repair().freed == []
    assert world.held() == ["9.0.0.130", "9.0.0.131"]


def test_repair_mends_the_kernel_although_docker_is_away(world: World) -> None:
    world.run_containers()
    world.kernel.bridges.clear()
    world.docker.away = "dockerd is away"
    repair = world.agent.repair()
    assert repair.changed == ["d-dcos"]
    assert (repair.freed, [finding.about for finding in repair.findings]) == ([], ["docker"])


def test_repair_frees_although_the_kernel_refuses_and_says_both(world: World) -> None:
    world.run_containers()
    world.docker.networks = (shown((WEB, "web", "9.0.0.130")),)
    world.kernel.refusals = [KernelError("nft said no"), KernelError("nft said no")]
    repair = world.agent.repair()
    assert world.held() == ["9.0.0.130"]
    assert repair.findings[0].problem == "nft said no"


def test_a_network_name_in_messages_is_dockers(world: World) -> None:
    world.run_containers()
    with world.store.write() as tx:
        networks.set_name(tx, NETWORK, "front")
    world.docker.networks = ()
    assert "network front" in [finding.about for finding in world.agent.check()]


def test_a_repair_that_runs_out_of_time_frees_a_part_and_says_how_much_is_left(world: World) -> None:
    create_network(world.store, world.clock.now - 3600)
    world.docker.networks = (shown(),)
    for last in range(130, 230):
        claim(world.store, f"9.0.0.{last}", world.clock.now - 3600)
    world.kernel.when_asked = lambda: world.clock.pass_by(1)
    repair = world.agent.repair()
    assert len(repair.freed) == PORTION
    (told,) = [finding for finding in repair.findings if finding.about == "repair"]
    assert told.problem.startswith("had no time for 36 more")
    assert told.mend == "dni repair"
    assert len(world.agent.repair().freed) == 36


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


def test_a_new_overlay_comes_with_the_command_that_makes_its_network(world: World) -> None:
    four, six = define("four", [ip_network("10.66.0.0/16")]), define("six", [ip_network("fd06::/64")])
    assert world.agent.define_overlay(four).create == (
        "docker network create -d dni --ipam-driver dni --ipam-opt overlay=four four"
    )
    assert world.agent.define_overlay(six).create == (
        "docker network create -d dni --ipam-driver dni --ipv6 --ipam-opt overlay=six six"
    )


def test_what_is_counted_for_monitoring_is_what_happened(world: World) -> None:
    world.run_containers()
    world.agent.look()
    figures = world.agent.figures()
    assert (figures.version, figures.docker_reachable, figures.problems) == (__version__, True, 0)
    assert figures.endpoints == {"dcos": 2}
    docker = next(load for load in figures.loads if load.half == "docker")
    assert (docker.overlay, docker.size, docker.used, docker.reserved) == ("dcos", 125, 2, 0)
    assert figures.kernel_changes > 0
    assert (figures.candidates, figures.reclaimed) == (0, 0)
    assert figures.cluster is not None
    assert [(one.overlay, one.here, one.count) for one in figures.cluster.leases] == [("dcos", True, 1)]


def test_what_the_collector_watches_and_frees_is_counted(world: World) -> None:
    world.run_containers()
    claim(world.store, "9.0.0.200", world.clock.now)
    world.agent.look()
    assert (world.agent.figures().candidates, world.agent.figures().reclaimed) == (1, 0)
    world.clock.pass_by(Graces().claim)
    world.agent.look()
    world.agent.look()
    assert (world.agent.figures().candidates, world.agent.figures().reclaimed) == (0, 1)


def test_a_half_that_is_all_but_full_is_a_problem_in_the_status(new: World) -> None:
    new.agent.define_overlay(define("one", [ip_network("10.64.0.0/24")]))
    new.agent.reserve(read_wish("one", "10.64.0.130-10.64.0.250"))
    new.agent.start()
    assert eventually(lambda: any("95 % full" in problem for problem in new.agent.status().problems))
    new.agent.stop()
