# SPDX-License-Identifier: Apache-2.0
"""Several agents around one real ZooKeeper: they find each other, outlive its absence, and give each other up."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import msgspec
import pytest
from kazoo.client import KazooClient

from dni_driver.agent import loops
from dni_driver.agent.agent import Agent
from dni_driver.agent.loop import Pace
from dni_driver.agent.options import Options
from dni_driver.core.addresses import telling
from dni_driver.core.addresses.counts import Counts
from dni_driver.core.addresses.reservations import Wish
from dni_driver.core.errors import InUse, NotFound, Unavailable
from dni_driver.core.mtu import Underlay
from dni_driver.core.overlays import Address, define
from dni_driver.core.records import Records
from dni_driver.core.wanted import Wanted
from dni_driver.registry import Member, open_registry
from dni_driver.registry.zookeeper import ZooKeeperRegistry
from dni_driver.registry.zookeeper.link import Changes, Link
from dni_driver.store import Store, fence, pools
from dni_driver.store.records import read_all
from tests.fakes import DCOS, UNDERLAY_MTU
from tests.lab.zookeeper import ZooKeeper, running
from tests.removing import remove
from tests.scratch import fast_directory
from tests.unit.agents import AgentsKernel, FakeDocker, claim, create_network

pytestmark = pytest.mark.zookeeper

DEV = define("dev", [ip_network("10.64.0.0/16")])
FIRST = IPv4Address("192.0.2.11")
PATIENCE = 60.0
AT_ONCE = 20.0
"""What nobody is told of is found out in half a minute."""


class _Kernel(AgentsKernel):
    """A kernel on a host of any address."""

    def __init__(self) -> None:
        """Know nobody."""
        super().__init__()
        self.peers: list[str] = []

    def underlay(self, _: Address) -> Underlay:
        """Answer the one link there is."""
        return Underlay(link="eth0", mtu=UNDERLAY_MTU)

    def reconcile(self, read_wanted: Callable[[], object]) -> list[str]:
        """Note the agent IPs of the peers that it is to know."""

        def noting() -> Wanted:
            wanted: Wanted = read_wanted()  # type: ignore[assignment]
            self.peers = [str(peer.agent_ip) for peer in wanted.peers]
            return wanted

        return super().reconcile(noting)


class Host:
    """A host with a disk, on which an agent may run."""

    def __init__(self, url: str, disk: Path, number: int) -> None:
        """Run nothing yet; `number` counts hosts from 0."""
        self.disk = disk
        self.url = url
        self.ip = FIRST + number
        self.kernel = _Kernel()
        self.agent: Agent | None = None
        self.registry: ZooKeeperRegistry | None = None
        self._store: Store | None = None

    def start(self, reclaim_after: float | None = None) -> Host:
        """Start an agent."""
        registry = open_registry(self.url, self.disk)
        assert isinstance(registry, ZooKeeperRegistry)
        self.registry = registry
        self._store = Store(self.disk / "dni.db")
        self.agent = Agent(
            store=self._store,
            kernel=self.kernel,
            registry=registry,
            docker=FakeDocker(),
            options=Options(default_overlay=DCOS, registry=self.url, agent_ip=self.ip, reclaim_after=reclaim_after),
        )
        self.agent.start()
        return self

    def stop(self) -> None:
        """Stop it; nothing where none runs."""
        if self.agent is not None and self._store is not None:
            self.agent.stop()
            self._store.close()
        self.agent = None

    def __call__(self) -> Agent:
        """Answer the agent that runs."""
        assert self.agent is not None
        return self.agent

    def cut_off(self) -> None:
        """Have the agent run on without a registry."""
        assert self.registry is not None
        self.registry.link.client.stop()

    def leased(self) -> list[str]:
        """Answer what agents hold, as the registry has it."""
        assert self.registry is not None
        return [f"{lease.held.overlay} {lease.held.subnet}" for lease in self.registry.leases()]

    def hands_out(self) -> bool:
        """Tell whether the plugin of this host would hand out an address now; its agent may have ended."""
        store = Store(self.disk / "dni.db")
        try:
            with store.read() as tx:
                fence.check(tx, "dcos", time.time())
        except Unavailable:
            return False
        finally:
            store.close()
        return True

    @property
    def store(self) -> Store:
        """Answer the store of the agent that runs."""
        assert self._store is not None
        return self._store

    def records(self) -> Records:
        """Answer all that the store has."""
        return read_all(self.store)

    def knows(self) -> list[str]:
        """Answer the agent IPs of the peers in the store."""
        return [str(peer.agent_ip) for peer in self.records().peers]

    def holds(self) -> list[str]:
        """Answer the agent subnets in the store."""
        return [f"{held.overlay} {held.subnet}" for held in self.records().agent_subnets]


Make = Callable[[int], Host]


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    if getattr(request, "param", "shared") == "own":
        return f"zookeeper://{request.getfixturevalue('own_server').address}/dni"
    return str(request.getfixturevalue("zookeeper_url"))


@pytest.fixture
def make(url: str) -> Iterator[Make]:
    made: list[Host] = []
    with fast_directory() as directory:

        def make(number: int) -> Host:
            disk = Path(directory) / f"disk{len(made)}"
            disk.mkdir()
            made.append(Host(url, disk, number))
            return made[-1]

        yield make
        for host in made:
            host.stop()


def eventually(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it does not come to be"
        time.sleep(0.02)


def alive(host: Host) -> dict[str, bool | None]:
    return {report.agent: report.alive for report in host().agents()}


def join(make: Make, number: int) -> list[Host]:
    """Answer so many hosts that know each other."""
    hosts = [make(one).start() for one in range(number)]
    every = {str(host.ip) for host in hosts}
    for host in hosts:
        eventually(lambda host=host: {*host.knows(), str(host.records().agent)} == every)  # type: ignore[misc]
    return hosts


def test_ten_hosts_that_join_at_once_know_each_other_and_share_nothing(make: Make) -> None:
    hosts = join(make, 10)
    for host in hosts:
        eventually(lambda host=host: host.holds() != [])  # type: ignore[misc]
    eventually(lambda: all(len([one for p in host.records().peers for one in p.subnets]) == 9 for host in hosts))
    assert sorted(held for host in hosts for held in host.holds()) == [f"dcos 9.0.{n}.0/24" for n in range(10)]
    records = hosts[0].records()
    vteps = [str(peer.vtep.ip) for peer in records.peers]
    assert sorted([*vteps, str(records.vtep and records.vtep.ip)]) == sorted(f"44.128.0.{n}/20" for n in range(1, 11))
    assert alive(hosts[0]) == {str(host.ip): True for host in hosts}


def test_a_new_host_reaches_the_kernel_of_every_other_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "KERNEL", msgspec.structs.replace(loops.KERNEL, every=3600.0))
    one, two = join(make, 2)
    three = make(2).start()
    for host in (one, two):
        eventually(lambda host=host: str(three.ip) in host.kernel.peers, AT_ONCE)  # type: ignore[misc]
    eventually(lambda: three.knows() == [str(one.ip), str(two.ip)], AT_ONCE)


TERM = 4.0
"""Seconds unseen after which a host loses what it holds, in these tests."""


@pytest.mark.parametrize("goes", [Host.cut_off, Host.stop])
def test_a_host_that_is_reclaimed_hands_out_nothing_by_then_and_comes_back_with_another_subnet(
    make: Make, monkeypatch: pytest.MonkeyPatch, goes: Callable[[Host], None]
) -> None:
    """Whether it is cut off or dies, its plugin goes on."""
    monkeypatch.setattr(loops, "CLUSTER", Pace(every=0.2))
    one, two, three = (make(number) for number in range(3))
    for host in (one, two):
        host.start(TERM)
        eventually(lambda host=host: host.holds() != [])  # type: ignore[misc]
    (lost,) = two.holds()
    eventually(two.hands_out)
    goes(two)
    while lost in one.leased():
        time.sleep(0.05)
    assert not two.hands_out(), "both may hand out the same now"
    three.start(TERM)
    eventually(lambda: three.holds() == [lost])
    two.stop()
    two.start(TERM)
    eventually(lambda: two.holds() not in ([], [lost]))
    eventually(two.hands_out)
    assert len({one.holds()[0], two.holds()[0], three.holds()[0]}) == 3


def test_what_dcos_asks_of_the_master_is_answered_from_what_the_host_follows(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same words, without a question for each agent."""
    hosts = join(make, 3)
    eventually(lambda: len(hosts[0]().dcos_cluster().agents) == 3)
    as_registered = hosts[0]().purge([])
    assert [len(agent.overlays) for agent in as_registered.agents] == [1, 1, 1]

    def unread(_: ZooKeeperRegistry) -> list[Member]:
        pytest.fail("every agent was asked for")

    monkeypatch.setattr(ZooKeeperRegistry, "members", unread)
    for host in hosts:
        assert host().dcos_cluster() == as_registered


def test_a_host_that_is_gone_is_shown_and_forgotten_when_somebody_says_so(make: Make) -> None:
    one, two, three = join(make, 3)
    with pytest.raises(InUse, match=r"agent 192\.0\.2\.13 is alive: stop dni on that host first"):
        one().forget_agent(three.ip)
    with pytest.raises(InUse, match="is this host"):
        one().forget_agent(one.ip)
    three.stop()
    eventually(lambda: alive(one)[str(three.ip)] is False)
    assert str(three.ip) in two.knows()
    one().forget_agent(three.ip)
    for host in (one, two):
        eventually(lambda: str(three.ip) not in host.knows(), AT_ONCE)  # noqa: B023 - done within the turn
    with pytest.raises(NotFound):
        one().forget_agent(three.ip)
    three.start()
    eventually(lambda: str(three.ip) in two.knows())


def test_a_host_that_comes_back_with_its_disk_has_what_it_had_and_one_without_starts_clean(make: Make) -> None:
    one, two = join(make, 2)
    eventually(lambda: two.holds() != [])
    held = two.holds()
    two.stop()
    two.start()
    eventually(lambda: alive(one)[str(two.ip)] is True)
    assert two.holds() == held
    two.stop()
    for file in two.disk.iterdir():
        file.unlink()
    two.start()
    eventually(lambda: two.holds() == held)
    assert two.records().addresses == []
    eventually(lambda: two.knows() == [str(one.ip)])


def test_a_host_whose_address_changes_keeps_its_subnets_and_its_vtep(make: Make) -> None:
    one, two = join(make, 2)
    eventually(lambda: two.holds() != [])
    held, vtep = two.holds(), two.records().vtep
    two.stop()
    two.ip = FIRST + 7
    two.start()
    eventually(lambda: one.knows() == [str(FIRST + 7)])
    assert (two.holds(), two.records().vtep) == (held, vtep)
    assert {str(one.subnet) for peer in one.records().peers for one in peer.subnets} == {held[0].split()[1]}


def test_two_hosts_with_one_address_are_told_apart_and_the_second_says_why(make: Make) -> None:
    one = make(0).start()
    eventually(lambda: one.holds() != [])
    second = make(0).start()
    eventually(lambda: any("another living host is agent 192.0.2.11" in p for p in second().status().problems))
    assert second.holds() == []
    with pytest.raises(InUse, match="another living host"):
        second().define_overlay(DEV)
    assert second.records().agent is None


def test_a_host_with_a_copy_of_anothers_disk_is_refused(make: Make) -> None:
    one = make(0).start()
    eventually(lambda: one.holds() != [])
    one.stop()
    copy = make(1)
    shutil.copytree(one.disk, copy.disk, dirs_exist_ok=True)
    one.start()
    eventually(lambda: alive(one) == {str(one.ip): True})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dni_driver.agent.identity._BOOT", _boot_of_the_copy(copy.disk))
        copy.start()
        eventually(lambda: any("whose disk is a copy of its" in problem for problem in copy().status().problems))
    assert alive(one) == {str(one.ip): True}


def _boot_of_the_copy(disk: Path) -> Path:
    (disk / "boot").write_text("another\n")
    return disk / "boot"


def test_an_overlay_comes_and_goes_for_all(make: Make) -> None:
    one, two = join(make, 2)
    one().define_overlay(DEV)
    eventually(lambda: len(two.holds()) == 2)
    two().remove_overlay("dev")
    eventually(lambda: len(one.holds()) == 1)


def test_an_overlay_that_another_host_uses_is_not_removed_and_the_host_is_named(make: Make) -> None:
    one, two = join(make, 2)
    one().define_overlay(DEV)
    eventually(lambda: len(two.holds()) == 2)
    assert one.registry is not None
    registry = one.registry
    kept = Wish(overlay="dev", container="web")
    two().reserve(kept)
    eventually(lambda: registry.link.children("uses/2") != [])
    with pytest.raises(InUse, match=r"'dev' is in use on 192\.0\.2\.12: remove its containers and Docker networks"):
        one().remove_overlay("dev")
    assert len(one.holds()) == 2
    two().release(kept)
    eventually(lambda: is_removed(one, "dev"))
    eventually(lambda: len(two.holds()) == 1)


def is_removed(host: Host, overlay: str) -> bool:
    """Remove an overlay, unless it is in use still."""
    with suppress(InUse):
        host().remove_overlay(overlay)
        return True
    return False


def test_what_uses_an_overlay_is_told_to_the_others_by_itself(make: Make) -> None:
    one, two = join(make, 2)
    eventually(lambda: two.holds() != [])
    create_network(two.store, time.time())
    claim(two.store, "9.0.1.130", time.time())
    assert one.registry is not None
    registry = one.registry
    eventually(lambda: registry.link.children("uses/1") != [])
    with pytest.raises(InUse, match=f"'dcos' is in use on {two.ip}"):
        remove(registry, "dcos")


def test_the_backend_of_an_overlay_changes_on_every_host(make: Make) -> None:
    one, two = join(make, 2)
    eventually(lambda: two.holds() != [])
    assert one().set_backend("dcos", "direct").backend == "direct"
    eventually(lambda: [overlay.backend for overlay in two.records().overlays] == ["direct"], AT_ONCE)


def used(host: Host, agent: Host) -> int | None:
    """Answer how many addresses of its Docker half an agent has handed out, as another one says; None for unknown."""
    found = (one for one in host().usage("dcos").agents if one.agent == str(agent.ip))
    return next((subnet.docker.used for one in found for subnet in one.subnets), None)


def test_each_agent_tells_how_full_all_are(make: Make) -> None:
    """In the same words as the one that is asked about; and no longer, once that is forgotten."""
    hosts = join(make, 3)
    one, two, three = hosts
    for host in hosts:
        eventually(lambda host=host: all(used(host, of) == 0 for of in hosts))  # type: ignore[misc]
    begun = time.time()
    take(three, 125)
    eventually(lambda: used(one, three) == 125)
    for host in (one, two):
        room = host().room("dcos", three.ip, "docker", 1)
        assert (room.free, room.as_of is not None and room.as_of >= begun) == (sum(more_of(three)), True)
        assert host().room("dcos", host.ip, "docker", 125).room is True
        (mine,) = (agent for agent in three().usage("dcos").agents if agent.here)
        (theirs,) = (agent for agent in host().usage("dcos").agents if agent.agent == str(three.ip))
        assert theirs.subnets[0] == mine.subnets[0]
        assert theirs.subnets[0].since is not None
    three.stop()
    eventually(lambda: alive(one)[str(three.ip)] is False)
    assert used(two, three) == 125
    one().forget_agent(three.ip)
    eventually(lambda: str(three.ip) not in two.knows())
    assert one.registry is not None
    assert one.registry.told([three.ip]) == {}
    assert [agent.agent for agent in two().usage("dcos").agents] == [str(two.ip), str(one.ip)]
    three.start()
    eventually(lambda: used(one, three) == 125)


def take(host: Host, number: int) -> None:
    """Hand out so many addresses of the Docker half."""
    first = ip_network(host.holds()[0].split()[1]).network_address + 130
    with host.store.write() as tx:
        pools.use_overlay(tx, "dcos", 4, None, time.time())
    for one in range(number):
        claim(host.store, str(first + one), time.time())


def more_of(host: Host) -> list[int]:
    """Answer what is free in the agent subnets that a host leased as it filled up."""
    (mine,) = (agent for agent in host().usage("dcos").agents if agent.here)
    return [subnet.docker.free or 0 for subnet in mine.subnets]


def test_an_agent_that_dcos_deletes_is_told_of_no_more(make: Make) -> None:
    one, two = join(make, 2)
    eventually(lambda: used(one, two) == 0)
    two.stop()
    eventually(lambda: alive(one)[str(two.ip)] is False)
    one().purge([two.ip])
    assert one.registry is not None
    assert one.registry.told([two.ip]) == {}


def test_where_nothing_changes_nothing_is_written_of_how_full_agents_are(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted anew again and again all the same, by agents whose Mesos half may change without the store."""
    monkeypatch.setattr(telling, "LOOKS", 0.0)
    hosts = join(make, 3)
    for host in hosts:
        eventually(lambda host=host: all(used(host, of) == 0 for of in hosts))  # type: ignore[misc]
    looked: list[Address] = []
    tell = ZooKeeperRegistry.tell

    def told(registry: ZooKeeperRegistry, agent_ip: Address, counts: Counts) -> None:
        tell(registry, agent_ip, counts)
        looked.append(agent_ip)

    written: list[str] = []
    commit = Link.commit

    def committed(link: Link, changes: Changes) -> list[object]:
        written.extend(operation.path for operation in changes.transaction.operations)
        return commit(link, changes)

    def is_quiet() -> bool:
        """Tell whether each has told three times since anything was written last."""
        if written:
            written.clear()
            looked.clear()
        return all(looked.count(host.ip) > 3 for host in hosts) and not written

    monkeypatch.setattr(ZooKeeperRegistry, "tell", told)
    monkeypatch.setattr(Link, "commit", committed)
    eventually(is_quiet)
    take(hosts[0], 1)
    eventually(lambda: used(hosts[1], hosts[0]) == 1)
    assert len([path for path in written if "/counts/" in path]) == 1


def test_an_agent_whose_session_ended_is_alive_again_soon(make: Make) -> None:
    one, two = join(make, 2)
    assert two.registry is not None
    client = two.registry.link.client
    twin = KazooClient(client.hosts and ",".join(f"{h}:{p}" for h, p in client.hosts), client_id=client.client_id)
    twin.start()
    twin.stop()
    twin.close()
    eventually(lambda: alive(one)[str(two.ip)] is False)
    eventually(lambda: alive(one)[str(two.ip)] is True)


@pytest.fixture
def own_server() -> Iterator[ZooKeeper]:
    with fast_directory() as directory, running(Path(directory) / "own") as server:
        yield server


@pytest.mark.parametrize("url", ["own"], indirect=True)
def test_without_its_registry_a_host_goes_on_from_its_store_and_everything_converges_afterwards(
    make: Make, own_server: ZooKeeper
) -> None:
    one, two = join(make, 2)
    eventually(lambda: two.holds() != [] and one.holds() != [])
    eventually(lambda: used(one, two) == 0)
    own_server.stop()
    eventually(lambda: any("the registry does not answer (ZooKeeper at" in p for p in one().status().problems))
    status = one().status()
    assert status.cluster.problem is not None
    assert [(report.agent, report.alive) for report in status.cluster.agents] == [
        (str(one.ip), True),
        (str(two.ip), None),
    ]
    found = one().usage("dcos")
    assert found.problem is not None
    assert "the registry does not answer (ZooKeeper at" in found.problem
    assert [(agent.agent, agent.subnets[0].docker.free) for agent in found.agents] == [
        (str(one.ip), 125),
        (str(two.ip), 125),
    ]
    assert one().room("dcos", two.ip, "docker", 126).room is False
    for ask in (one().agents, lambda: one().define_overlay(DEV), lambda: one().set_backend("dcos", "direct")):
        with pytest.raises(Unavailable, match="the registry does not answer"):
            ask()
    held = one.holds()
    one.stop()
    one.start()
    assert (one.holds(), one.knows()) == (held, [str(two.ip)])
    assert one.kernel.reconciled.wait(PATIENCE)
    assert one().room("dcos", one.ip, "docker", 125).room is True
    unheard = one().room("dcos", two.ip, "docker", 1)
    assert (unheard.room, unheard.as_of) == (None, None)
    own_server.start()
    three = make(2).start()
    for host in (one, two):
        eventually(lambda host=host: str(three.ip) in host.knows(), 60)  # type: ignore[misc]
        eventually(lambda host=host: host().status().problems == [], 90)  # type: ignore[misc]
    assert alive(three) == {str(host.ip): True for host in (one, two, three)}
