# SPDX-License-Identifier: Apache-2.0
"""The agent has room before it is needed, and gives back what nothing needs, whatever cuts that off."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.agent.reconciler import Reconciler
from dni_driver.agent.reserving import Reserving
from dni_driver.agent.room import EMPTY_SECONDS, IDLE_SECONDS, RETRY_SECONDS, Leasing
from dni_driver.core.addresses.reservations import read_wish
from dni_driver.core.addresses.room import Leaving
from dni_driver.core.errors import Crowded, Exhausted, KernelError, NotMended, Refused, Unavailable
from dni_driver.core.invariants.check import findings
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import AgentSubnet, define
from dni_driver.core.records import NetworkRecord
from dni_driver.core.reports import overlay_report
from dni_driver.core.wanted import wanted
from dni_driver.registry import Lease
from dni_driver.registry.local import LocalRegistry
from dni_driver.store import Store, addresses, networks, overlays, pools, room
from dni_driver.store.claiming import ANY, Asked, claim, halves_of
from dni_driver.store.records import read_all
from tests.fakes import AGENT, FakeClock
from tests.scratch import fast_directory
from tests.unit.agents import NETWORK, AgentsKernel, frozen

TINY = define("tiny", [ip_network("10.80.0.0/26")], (28, None))
"""Four agent subnets, whose Docker halves have room for five containers each: 10.80.0.10 to .14, .26 to .30 ..."""
OTHER = IPv4Address("192.0.2.20")


class Host:
    """An agent's store, registry and kernel; time passes as a test says. `store` is what the plugin has."""

    def __init__(self, directory: Path) -> None:
        """Take part in the overlay, and have its Docker network."""
        self.store = Store(directory / "dni.db")
        self._agents = Store(directory / "dni.db")
        self.registry = LocalRegistry(directory / "registry.db")
        self.kernel, self.clock = AgentsKernel(), FakeClock()
        self.joining = Joining(self._agents, self.registry, self.identity(), TINY, self.clock)
        self.joining.join()
        self.start()

    def close(self) -> None:
        """Let go of the files."""
        self.store.close()
        self._agents.close()

    def identity(self) -> Identity:
        """Answer who it is."""
        return Identity(self.store, lambda: AGENT, None)

    def start(self) -> None:
        """Begin to watch, as a new process does."""
        mend = Reconciler(self._agents, self.kernel).mend
        time = frozen(self.clock)
        self.room = Leasing(self._agents, self.registry, self.identity(), mend, self.joining.in_turn, time)

    def create_network(self, ip_range: str | None = None, gateway: str = "10.80.0.9/29") -> None:
        """Record the overlay's Docker network."""
        interface = ip_interface(gateway)
        assert interface.version == 4
        ranged = ip_network(ip_range) if ip_range else None
        with self.store.write() as tx:
            pools.use_overlay(tx, "tiny", 4, ranged, self.clock.now)
            network = NetworkRecord(
                id=NETWORK,
                overlay="tiny",
                options=NetworkOptions(),
                mtu=1450,
                gateway=interface,
                since=self.clock.now,
            )
            networks.add(tx, network)

    def take(self, asked: str | None = None) -> str:
        """Give a container an address, as the plugin does."""
        with self.store.write() as tx:
            pool = pools.find(tx, "tiny/v4")
            return str(
                claim(
                    tx,
                    pool,
                    halves_of(tx, pool),
                    Asked(address=ip_address(asked) if asked else None),
                    self.clock.now,
                )
            )

    def free(self, *texts: str) -> None:
        """Free addresses, as the plugin does."""
        with self.store.write() as tx:
            for text in texts:
                addresses.free(tx, "tiny/v4", ip_address(text), self.clock.now)

    def look_for(self, seconds: float) -> list[str]:
        """Look again and again until so much time has gone by; answer the last problems."""
        ends = self.clock.now + seconds
        while self.clock.now < ends:
            self.clock.pass_by(IDLE_SECONDS / 4)
            self.room.look()
        return self.room.look()

    def halves(self) -> list[str]:
        """Answer the Docker halves that addresses come from."""
        return [str(half) for half in read_all(self.store).halves("tiny")]

    def leased(self) -> list[str]:
        """Answer what the registry says that this agent holds."""
        return [str(one.held.subnet) for one in self.registry.leases(AGENT)]

    def lease_the_rest(self) -> None:
        """Have another agent hold all that is left."""
        for _ in range(3):
            self.registry.lease("tiny", 4, OTHER)

    def carried(self) -> list[str]:
        """Answer the addresses of the bridge."""
        self.kernel.reconcile(lambda: wanted(read_all(self.store)))
        return [str(address) for address in self.kernel.bridges["d-tiny"].addresses]


@pytest.fixture
def host() -> Iterator[Host]:
    with fast_directory() as directory:
        host = Host(Path(directory))
        yield host
        host.close()


def take_from_mesos_half(host: Host) -> None:
    """Give a container of CNI an address of the second agent subnet, and take it back."""
    with host.store.write() as tx:
        pool = pools.use_mesos(tx, "tiny", 4, host.clock.now)
        asked = Asked(address=ip_address("10.80.0.18"))
        addresses.free(tx, pool.id, claim(tx, pool, halves_of(tx, pool), asked, host.clock.now), host.clock.now)


@pytest.fixture
def busy(host: Host) -> Host:
    """Give a host with a network and two agent subnets, the second one empty."""
    host.create_network()
    for _ in range(4):
        host.take()
    host.room.look()
    assert host.halves() == ["10.80.0.8/29", "10.80.0.24/29"]
    host.free("10.80.0.11", "10.80.0.12", "10.80.0.13")
    return host


def test_one_more_agent_subnet_is_leased_when_four_fifths_are_used(host: Host) -> None:
    host.create_network()
    for expected in (1, 1, 1, 2):
        host.take()
        assert host.room.look() == []
        assert len(host.halves()) == expected
    assert host.leased() == ["10.80.0.0/28", "10.80.0.16/28"]


def test_its_gateway_is_on_the_bridge_when_the_look_ends(host: Host) -> None:
    host.create_network()
    [host.take() for _ in range(4)]
    host.room.look()
    carried = [str(address) for address in host.kernel.bridges["d-tiny"].addresses]
    assert carried == ["10.80.0.9/29", "10.80.0.25/29"]


def test_addresses_go_on_in_the_next_half_after_the_first(host: Host) -> None:
    host.create_network()
    taken = []
    for _ in range(20):
        taken.append(host.take())
        host.room.look()
    assert taken == [f"10.80.0.{start + number}" for start in (10, 26, 42, 58) for number in range(5)]
    assert len(set(host.leased())) == 4


def test_a_full_overlay_fails_a_start_with_size_and_use_of_all_halves_and_who_lists_the_holders(host: Host) -> None:
    host.create_network()
    host.registry.lease("tiny", 4, OTHER)
    host.registry.lease("tiny", 4, OTHER)
    for _ in range(10):
        host.take()
        host.room.look()
    words = (
        "no free address in the 2 Docker halves of overlay 'tiny' on agent 192.0.2.10: 10 of 10 used, 0 reserved, "
        "and overlay 'tiny' is full: all 4 agent subnets of /28 in 10.80.0.0/26 are held.*"
        "`dni address ls --overlay tiny` lists the holders"
    )
    with pytest.raises(Exhausted, match=words) as raised:
        host.take()
    assert not isinstance(raised.value, Crowded), "nobody waits for what will not come"


def test_a_full_overlay_is_a_problem_as_long_as_it_is_one(host: Host) -> None:
    host.lease_the_rest()
    host.create_network()
    [host.take() for _ in range(4)]
    assert re.match(r"IPv4 of overlay 'tiny': overlay 'tiny' is full", host.room.look()[0])
    host.registry.give_back(AgentSubnet(overlay="tiny", subnet=ip_network("10.80.0.32/28")), OTHER)
    host.clock.pass_by(RETRY_SECONDS)
    assert host.room.look() == []
    assert host.leased() == ["10.80.0.0/28", "10.80.0.32/28"]


def test_the_registry_is_not_asked_again_and_again_for_what_it_has_not(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.lease_the_rest()
    host.create_network()
    asked: list[str] = []

    def lease(*_: object) -> AgentSubnet:
        asked.append("")
        raise Exhausted("full")

    monkeypatch.setattr(host.registry, "lease", lease)
    for _ in range(5):
        host.take()
        assert host.room.look() == ["IPv4 of overlay 'tiny': full"] or not asked
    assert len(asked) == 1
    host.clock.pass_by(RETRY_SECONDS)
    host.room.look()
    assert len(asked) == 2


def test_a_registry_that_cannot_be_had_is_said_at_once_to_whoever_finds_no_address(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lease(*_: object) -> AgentSubnet:
        raise Unavailable("the registry does not answer")

    monkeypatch.setattr(host.registry, "lease", lease)
    host.create_network()
    for _ in range(5):
        host.take()
        host.room.look()
    with pytest.raises(Exhausted, match="no more can be leased now: the registry does not answer"):
        host.take()


def test_without_an_answer_of_the_agent_a_start_is_told_to_wait(host: Host) -> None:
    host.create_network()
    [host.take() for _ in range(5)]
    with pytest.raises(Crowded, match=r"no free address.*5 of 5 used.*the agent has leased no more yet"):
        host.take()


def test_an_ip_range_does_not_grow_and_says_so(host: Host) -> None:
    host.create_network(ip_range="10.80.0.12/30")
    [host.take() for _ in range(3)]
    assert host.room.look() == []
    with pytest.raises(
        Exhausted,
        match=r"within --ip-range 10.80.0.12/30: 3 of 3 used, 0 reserved, and a network "
        r"with --ip-range does not grow",
    ) as raised:
        host.take()
    assert not isinstance(raised.value, Crowded)
    assert host.leased() == ["10.80.0.0/28"]


def test_what_is_reserved_counts_as_taken(host: Host) -> None:
    Reserving(host.store, host.clock).reserve(read_wish("tiny", "10.80.0.11-10.80.0.13"))
    host.create_network()
    host.room.look()
    assert len(host.halves()) == 1
    host.take()
    host.room.look()
    assert len(host.halves()) == 2


def test_addresses_can_be_asked_for_and_reserved_in_any_half(busy: Host) -> None:
    assert busy.take("10.80.0.30") == "10.80.0.30"
    made = Reserving(busy.store, busy.clock).reserve(read_wish("tiny", "10.80.0.27-10.80.0.28"))
    assert str(made) == "10.80.0.27-10.80.0.28"
    with pytest.raises(Refused, match=r"10.80.0.10 to 10.80.0.14 or 10.80.0.26 to 10.80.0.30"):
        busy.take("10.80.0.25")


def test_reports_count_all_halves(busy: Host) -> None:
    report = overlay_report(read_all(busy.store), "tiny")
    assert report.docker_halves == ["10.80.0.8/29", "10.80.0.24/29"]
    assert report.usage.v4 is not None
    assert (report.usage.v4.size, report.usage.v4.used, report.usage.v4.free) == (10, 1, 9)


def test_what_has_been_empty_for_an_hour_is_given_back(busy: Host) -> None:
    busy.look_for(EMPTY_SECONDS - IDLE_SECONDS)
    assert len(busy.halves()) == 2
    assert busy.look_for(3 * IDLE_SECONDS) == []
    assert (busy.halves(), busy.leased()) == (["10.80.0.8/29"], ["10.80.0.0/28"])
    assert busy.carried() == ["10.80.0.9/29"]


@pytest.mark.parametrize("use", [lambda host: host.free(host.take("10.80.0.26")), take_from_mesos_half])
def test_an_address_in_between_lets_the_hour_begin_anew(busy: Host, use: Callable[[Host], None]) -> None:
    busy.look_for(EMPTY_SECONDS - 2 * IDLE_SECONDS)
    use(busy)
    busy.look_for(EMPTY_SECONDS - IDLE_SECONDS)
    assert len(busy.halves()) == 2
    busy.look_for(3 * IDLE_SECONDS)
    assert len(busy.halves()) == 1


def _take(host: Host) -> None:
    host.take("10.80.0.26")


def _reserve(host: Host) -> None:
    Reserving(host.store, host.clock).reserve(read_wish("tiny", "10.80.0.28"))


def _crowd(host: Host) -> None:
    [host.take() for _ in range(3)]


@pytest.mark.parametrize("use", [_take, _reserve, _crowd])
def test_what_is_used_or_reserved_or_needed_next_is_kept(busy: Host, use: Callable[[Host], None]) -> None:
    use(busy)
    busy.look_for(3 * EMPTY_SECONDS)
    assert busy.leased() == ["10.80.0.0/28", "10.80.0.16/28"]


def test_the_first_is_kept_also_when_it_is_empty(busy: Host) -> None:
    busy.free("10.80.0.10")
    busy.take("10.80.0.26")
    busy.look_for(3 * EMPTY_SECONDS)
    assert busy.leased() == ["10.80.0.0/28", "10.80.0.16/28"]


def test_the_half_that_docker_has_as_its_networks_pool_is_kept(host: Host) -> None:
    with host.store.write() as tx:
        pools.use_overlay(tx, "tiny", 4, None, host.clock.now)
    [host.take() for _ in range(4)]
    host.room.look()
    host.create_network(gateway="10.80.0.25/29")
    host.free(*(f"10.80.0.{number}" for number in range(10, 14)))
    host.look_for(3 * EMPTY_SECONDS)
    assert host.halves() == ["10.80.0.8/29", "10.80.0.24/29"]


def test_several_are_given_back_one_after_the_other_the_newest_first(host: Host) -> None:
    host.create_network()
    taken = []
    for _ in range(14):
        taken.append(host.take())
        host.room.look()
    assert len(host.halves()) == 4
    host.free(*taken)
    host.look_for(EMPTY_SECONDS)
    seen = []
    for _ in range(8):
        host.look_for(IDLE_SECONDS)
        seen.append(tuple(host.halves()))
    halves = ("10.80.0.8/29", "10.80.0.24/29", "10.80.0.40/29", "10.80.0.56/29")
    assert list(dict.fromkeys(seen)) == [halves, halves[:3], halves[:2], halves[:1]]
    assert host.leased() == ["10.80.0.0/28"]


def _begin_leaving(host: Host) -> None:
    """Have the agent end right after it marked what it gives back."""
    _, second = read_all(host.store).agent_subnets
    with host.store.write() as tx:
        room.begin_leaving(tx, Leaving(held=second, agent_ip=AGENT))


def test_no_address_comes_from_what_is_on_its_way_out(busy: Host) -> None:
    _begin_leaving(busy)
    with pytest.raises(Refused, match="lies outside"):
        busy.take("10.80.0.27")
    assert busy.take() == "10.80.0.14"
    with pytest.raises(Refused, match="lies outside"):
        Reserving(busy.store, busy.clock).reserve(read_wish("tiny", "10.80.0.28"))
    assert busy.carried() == ["10.80.0.9/29"]


def test_an_agent_that_died_after_the_mark_goes_on_from_it(busy: Host) -> None:
    _begin_leaving(busy)
    busy.start()
    busy.joining.join()
    assert busy.room.look() == []
    assert (busy.halves(), busy.leased()) == (["10.80.0.8/29"], ["10.80.0.0/28"])


def test_an_agent_that_died_after_the_registry_forgot_leaves_the_new_holder_alone(busy: Host) -> None:
    _begin_leaving(busy)
    second = AgentSubnet(overlay="tiny", subnet=ip_network("10.80.0.16/28"))
    busy.registry.give_back(second, AGENT)
    assert busy.registry.lease("tiny", 4, OTHER) == second
    assert busy.joining.join() == []
    busy.start()
    assert busy.room.look() == []
    assert [str(one.held.subnet) for one in busy.registry.leases(OTHER)] == ["10.80.0.16/28"]
    assert busy.halves() == ["10.80.0.8/29"]
    with busy.store.read() as tx:
        assert room.leaving(tx) == []


def test_a_joining_that_has_just_read_a_lease_does_not_record_again_what_is_given_back(
    busy: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another agent may have it by then."""
    _begin_leaving(busy)
    leases, given_back = busy.registry.leases, threading.Thread(target=busy.room.look)
    readings: list[list[Lease]] = []

    def read_slowly(agent_ip: IPv4Address | None = None) -> list[Lease]:
        read = leases(agent_ip)
        readings.append(read)
        if len(readings) == 2:
            given_back.start()
            given_back.join(0.5)
        return read

    monkeypatch.setattr(busy.registry, "leases", read_slowly)
    assert busy.joining.join() == []
    given_back.join(60)
    monkeypatch.undo()
    with busy.store.read() as tx:
        held = [str(one.subnet) for one in overlays.agent_subnets(tx)]
    assert held == busy.leased() == ["10.80.0.0/28"]


def test_nothing_is_given_back_while_the_kernel_still_has_it(busy: Host) -> None:
    _begin_leaving(busy)
    busy.kernel.refusals.append(NotMended([("d-tiny", "bridge d-tiny: Operation not permitted")]))
    assert busy.room.look() == [
        "agent subnet 10.80.0.16/28 of overlay 'tiny' stays: bridge d-tiny: Operation not permitted"
    ]
    assert busy.leased() == ["10.80.0.0/28", "10.80.0.16/28"]
    busy.clock.pass_by(RETRY_SECONDS)
    assert busy.room.look() == []
    assert busy.leased() == ["10.80.0.0/28"]


def test_trouble_with_another_bridge_does_not_keep_it(busy: Host) -> None:
    _begin_leaving(busy)
    busy.kernel.refusals.append(NotMended([("d-other", "bridge d-other: Operation not permitted")]))
    assert busy.room.look() == []
    assert busy.leased() == ["10.80.0.0/28"]


def test_a_kernel_that_cannot_be_asked_keeps_everything(busy: Host) -> None:
    _begin_leaving(busy)
    busy.kernel.refusals.append(KernelError("the kernel cannot be asked"))
    assert busy.room.look() == ["the kernel cannot be asked"]
    assert busy.leased() == ["10.80.0.0/28", "10.80.0.16/28"]


def test_what_was_given_back_can_be_had_again_as_new(busy: Host) -> None:
    busy.free(busy.take("10.80.0.26"))
    busy.look_for(EMPTY_SECONDS + 3 * IDLE_SECONDS)
    assert len(busy.halves()) == 1
    [busy.take() for _ in range(4)]
    busy.room.look()
    assert busy.halves() == ["10.80.0.8/29", "10.80.0.24/29"]
    assert busy.take() == "10.80.0.26"


def test_the_records_are_sound_all_the_way(busy: Host) -> None:
    def check() -> None:
        records = read_all(busy.store)
        assert findings(records, None, None, wanted(records), busy.clock.now) == []

    check()
    busy.free(busy.take("10.80.0.26"))
    _begin_leaving(busy)
    check()
    busy.room.look()
    check()


def test_a_look_that_finds_nothing_written_reads_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.room.look()
    monkeypatch.setattr(host.store, "read", None)
    assert host.room.look() == []


def test_ipv6_halves_are_huge_and_stay_one() -> None:
    six = define("six", [ip_network("fd06::/64")])
    with fast_directory() as directory:
        host = Host(Path(directory))
        host.joining.define(six)
        with host.store.write() as tx:
            pool = pools.use_overlay(tx, "six", 6, None, host.clock.now)
            for _ in range(300):
                claim(tx, pool, halves_of(tx, pool), ANY, host.clock.now)
        host.room.look()
        assert [str(one.held.subnet) for one in host.registry.leases() if one.held.overlay == "six"] == ["fd06::/80"]
        host.close()
