# SPDX-License-Identifier: Apache-2.0
"""The collector frees what has leaked, with its link, and nothing that may be alive."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from dni_driver.agent.collector import Collector
from dni_driver.core.invariants.collection import Graces, Sightings
from dni_driver.core.records import AddressState
from dni_driver.core.views import DockerNetwork, DockerView
from dni_driver.store import Store, addresses, endpoints, pools
from dni_driver.store.records import read_all
from tests.fakes import FakeClock
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

PLAIN = ip_network("10.5.0.0/24")


class Host:
    """A store and a Docker that differ, a kernel, and a clock that a look is taken by."""

    def __init__(self, store: Store) -> None:
        """Take a store with overlays leased."""
        self.store = store
        self.clock = FakeClock()
        self.kernel = AgentsKernel()
        self.docker = FakeDocker()
        graces = Graces(claim=120, endpoint=900, network=30)
        self.collector = Collector(store, self.kernel, Sightings(graces), frozen(self.clock))

    def look(self) -> list[str]:
        """Look once, as the agent does."""
        records = read_all(self.store)
        return self.collector.collect(records, self.docker.view(records))

    def look_for(self, seconds: float) -> list[str]:
        """Look every 30 s until so much time has gone by."""
        freed: list[str] = []
        ends = self.clock.now + seconds
        while self.clock.now < ends:
            freed += self.look()
            self.clock.pass_by(30)
        return freed

    def held(self) -> list[str]:
        """Answer the addresses that are not free."""
        records = read_all(self.store)
        return [str(record.address) for record in records.addresses if record.state is not AddressState.FREE]


@pytest.fixture
def host(store: Store) -> Host:
    host = Host(store)
    create_network(store, host.clock.now)
    host.docker.networks = (shown(),)
    return host


def endpoint(host: Host, name: str = WEB, text: str = "9.0.0.130") -> None:
    create_endpoint(host.store, name, text, host.clock.now)


def test_a_claim_without_an_endpoint_is_freed_after_two_minutes(host: Host) -> None:
    claim(host.store, "9.0.0.130", host.clock.now)
    assert host.look_for(120) == []
    assert host.held() == ["9.0.0.130"]
    assert host.look_for(30) == ["address 9.0.0.130: is claimed in pool dcos/v4, but Docker shows it nowhere"]
    assert host.held() == []


def test_a_claim_that_gets_its_endpoint_in_between_is_kept(host: Host) -> None:
    claim(host.store, "9.0.0.130", host.clock.now)
    host.look_for(120)
    with host.store.write() as tx:
        addresses.release(tx, "dcos/v4", ip_address("9.0.0.130"), host.clock.now)
    endpoint(host)
    host.docker.networks = (shown((WEB, "web", "9.0.0.130")),)
    assert host.look_for(1200) == []
    assert host.held() == ["9.0.0.130"]


def test_a_claim_taken_anew_meanwhile_waits_anew(host: Host) -> None:
    for _ in range(10):
        claim(host.store, "9.0.0.130", host.clock.now)
        assert host.look_for(100) == []
        with host.store.write() as tx:
            addresses.free(tx, "dcos/v4", ip_address("9.0.0.130"), host.clock.now)


def test_what_changes_between_the_look_and_the_deed_is_kept(host: Host) -> None:
    """The change comes while Docker is being asked: seen before, no longer true when it would be freed."""
    claim(host.store, "9.0.0.130", host.clock.now)
    host.look_for(120)

    def change_hands() -> None:
        with host.store.write() as tx:
            addresses.free(tx, "dcos/v4", ip_address("9.0.0.130"), host.clock.now)
        claim(host.store, "9.0.0.130", host.clock.now)

    host.docker.when_asked = change_hands
    assert host.look() == []
    assert host.held() == ["9.0.0.130"]


def test_an_endpoint_that_docker_lost_is_freed_with_its_address_and_link(host: Host) -> None:
    endpoint(host)
    assert host.look_for(900) == []
    assert host.kernel.detached == []
    assert len(host.look_for(30)) == 1
    assert host.held() == []
    assert read_all(host.store).endpoints == []
    assert host.kernel.detached == [WEB]


def test_an_endpoint_whose_address_dockerd_gave_back_is_freed_after_two_minutes(host: Host) -> None:
    endpoint(host)
    with host.store.write() as tx:
        addresses.release(tx, "dcos/v4", ip_address("9.0.0.130"), host.clock.now)
    assert host.look_for(120) == []
    assert len(host.look_for(30)) == 1
    assert (host.held(), host.kernel.detached) == ([], [WEB])


def test_an_endpoint_that_leaves_its_sandbox_meanwhile_waits_anew(host: Host) -> None:
    endpoint(host)
    host.look_for(870)
    with host.store.write() as tx:
        endpoints.left(tx, WEB)
    assert host.look_for(900) == []
    assert len(host.look_for(30)) == 1


def test_what_docker_lists_is_never_freed(host: Host) -> None:
    endpoint(host)
    endpoint(host, DB, "9.0.0.131")
    host.docker.networks = (shown((WEB, "web", "9.0.0.130"), (DB, "db", "9.0.0.131")),)
    assert host.look_for(5000) == []
    assert host.held() == ["9.0.0.130", "9.0.0.131"]


def test_an_address_that_answers_is_never_freed_and_waits_anew_once_silent(host: Host) -> None:
    endpoint(host)
    host.kernel.alive = {"9.0.0.130"}
    assert host.look_for(3000) == []
    host.kernel.alive = set()
    host.look_for(60)
    assert host.held() == ["9.0.0.130"]
    assert len(host.look_for(900)) == 1


def test_a_network_that_docker_lost_is_freed_after_half_a_minute(host: Host) -> None:
    claim(host.store, "9.0.0.140", host.clock.now)
    with host.store.write() as tx:
        addresses.reserve(tx, "dcos/v4", ip_address("9.0.0.140"), NETWORK, host.clock.now)
    host.docker.networks = ()
    assert host.look() == []
    host.clock.pass_by(30)
    assert host.look() == [f"network {NETWORK[:12]}: is recorded on overlay 'dcos', but Docker does not list it"]
    records = read_all(host.store)
    assert (records.networks, host.held()) == ([], [])
    assert [pool.uses for pool in records.pools] == [0]


def test_a_network_with_endpoints_goes_with_them_after_the_long_grace(host: Host) -> None:
    endpoint(host)
    host.docker.networks = ()
    assert host.look_for(900) == []
    host.look_for(30)
    assert read_all(host.store).networks == []
    assert (host.held(), set(host.kernel.detached)) == ([], {WEB})


def test_a_network_stays_while_one_of_its_containers_answers(host: Host) -> None:
    endpoint(host)
    host.kernel.alive = {"9.0.0.130"}
    host.docker.networks = ()
    assert host.look_for(3000) == []


def test_nothing_is_freed_while_docker_is_away_or_by_the_first_look_after(host: Host) -> None:
    claim(host.store, "9.0.0.130", host.clock.now)
    host.look_for(120)
    host.collector.blind()
    assert host.look() == []
    assert len(host.look()) == 1


def plain(*containers: tuple[str, str, str]) -> DockerNetwork:
    return DockerNetwork(
        id="b" * 64,
        name="br0",
        driver="bridge",
        ipam_driver="dni",
        subnets=(str(PLAIN),),
        endpoints=shown(*containers).endpoints,
    )


def use_plain(host: Host) -> None:
    with host.store.write() as tx:
        pool = pools.use_plain(tx, PLAIN, None, host.clock.now)
        addresses.hold(tx, pool.id, ip_address("10.5.0.1"), AddressState.RESERVED, host.clock.now)
        addresses.hold(tx, pool.id, ip_address("10.5.0.2"), AddressState.CLAIMED, host.clock.now)


def test_an_address_of_a_plain_pool_that_no_container_has_is_freed_and_its_gateway_is_kept(host: Host) -> None:
    use_plain(host)
    host.docker.networks = (shown(), plain((WEB, "web", "10.5.0.2")))
    assert host.look_for(2000) == []
    host.docker.networks = (shown(), plain())
    assert host.look_for(900) == []
    assert len(host.look_for(30)) == 1
    assert host.held() == ["10.5.0.1"]


def test_a_plain_pool_that_no_network_uses_is_forgotten(host: Host) -> None:
    use_plain(host)
    assert host.look_for(900) == []
    host.look_for(30)
    assert [pool.id for pool in read_all(host.store).pools] == ["dcos/v4"]
    assert host.held() == []


def test_a_wrong_count_of_uses_is_put_right(host: Host) -> None:
    use_plain(host)
    with host.store.write() as tx:
        pools.use_plain(tx, PLAIN, None, host.clock.now)
    host.docker.networks = (shown(), plain((WEB, "web", "10.5.0.2")))
    assert host.look_for(120) == []
    assert host.look_for(30) == ["pool plain/10.5.0.0/24: counts 2 uses, but in Docker it has 1"]
    assert [pool.uses for pool in read_all(host.store).pools] == [1, 1]


def test_a_jump_of_the_wall_clock_frees_nothing(store: Store) -> None:
    """What measures is another clock than what dates records."""
    host = Host(store)
    create_network(store, host.clock.now)
    host.docker.networks = (shown(),)
    wall = FakeClock()
    time = frozen(host.clock)
    host.collector = Collector(
        store,
        host.kernel,
        Sightings(Graces()),
        type(time)(clock=wall, monotonic=time.monotonic, sleep=time.sleep),
    )
    claim(store, "9.0.0.130", wall.now)
    for _ in range(4):
        wall.pass_by(86400)
        host.clock.pass_by(30)
        assert host.look() == []
    assert host.held() == ["9.0.0.130"]


def test_an_address_that_cannot_be_asked_is_kept_and_keeps_no_other(host: Host) -> None:
    """A prohibiting route, for one, lets the kernel answer an error."""
    endpoint(host)
    claim(host.store, "9.0.0.150", host.clock.now)
    host.kernel.unaskable.add("9.0.0.130")
    host.look_for(1000)
    assert host.held() == ["9.0.0.130"]
    host.kernel.unaskable.clear()
    host.look_for(1000)
    assert host.held() == []


def test_leaks_of_all_kinds_are_freed_in_one_go(host: Host) -> None:
    use_plain(host)
    claim(host.store, "9.0.0.150", host.clock.now)
    for number in range(20):
        endpoint(host, f"{number:064x}", f"9.0.0.{160 + number}")
    host.docker.networks = ()
    host.look()
    host.clock.pass_by(900)
    assert len(host.look()) == 20 + 1 + 1 + 1 + 1
    records = read_all(host.store)
    assert (records.networks, records.endpoints, host.held()) == ([], [], [])
    assert len(set(host.kernel.detached)) == 20
    assert host.collector.collect(records, DockerView()) == []
