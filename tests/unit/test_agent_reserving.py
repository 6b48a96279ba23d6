# SPDX-License-Identifier: Apache-2.0
"""What the agent does when a person keeps addresses back: on a host with containers, networks, and other people."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from dni_driver.agent import agent
from dni_driver.agent.agent import Agent
from dni_driver.agent.options import Options
from dni_driver.core.addresses.allocation import Span
from dni_driver.core.addresses.reservations import read_wish
from dni_driver.core.errors import Exhausted, InUse, NotFound, Refused, Unavailable
from dni_driver.core.records import AddressState
from dni_driver.core.reports import ReservationReport
from dni_driver.registry import open_registry
from dni_driver.store import Store, addresses
from dni_driver.store.records import read_all
from tests.fakes import DCOS, DUAL, FakeClock
from tests.unit.agents import WEB, AgentsKernel, FakeDocker, claim, create_endpoint, create_network, frozen, shown

NOW = 1_700_000_000.0


class World:
    """An agent that holds 9.0.0.0/24 of `dcos`, and a Docker beside it."""

    def __init__(self, directory: Path) -> None:
        """Have it take part in the overlays."""
        self.clock = FakeClock(NOW)
        self.docker = FakeDocker()
        self.store = Store(directory / "dni.db")
        self.agent = Agent(
            store=self.store,
            kernel=AgentsKernel(),
            registry=open_registry("local", directory),
            docker=self.docker,
            options=Options(default_overlay=DCOS),
            time=frozen(self.clock),
        )
        for overlay in (DCOS, DUAL):
            self.agent.define_overlay(overlay)

    def reserve(self, addresses: str | None = None, container: str | None = None, overlay: str = "dcos") -> str:
        """Reserve something; answer it as it is written."""
        return written(self.agent.reserve(read_wish(overlay, addresses, container)))

    def release(self, addresses: str | None = None, container: str | None = None) -> list[str]:
        """Give something up."""
        return [written(one) for one in self.agent.release(read_wish("dcos", addresses, container))]

    def run_web(self) -> None:
        """Have a container called web at 9.0.0.130, and let the agent find out."""
        create_network(self.store, NOW)
        create_endpoint(self.store, WEB, "9.0.0.130", NOW)
        self.docker.networks = (shown((WEB, "web", "9.0.0.130")),)
        self.agent.look()

    def usage(self) -> tuple[int, int, int, int]:
        """Answer size, used, reserved and free of dcos."""
        counted = next(one for one in self.agent.overlays() if one.name == "dcos").usage.v4
        assert counted is not None
        return counted.size, counted.used, counted.reserved, counted.free

    def listed(self, *, with_free: bool = False) -> list[tuple[str, str | None, str, str | None, bool]]:
        """Answer what `dni address ls` shows: address, last, state, container, reserved."""
        rows = self.agent.addresses("dcos", with_free=with_free)
        return [(row.address, row.last, row.state, row.container, row.reserved) for row in rows]


def written(one: ReservationReport) -> str:
    return one.first if one.first == one.last else f"{one.first}-{one.last}"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(agent, "_LOOK_SECONDS", 0.0)  # no loop runs here that could look first
    world = World(tmp_path)
    yield world
    world.store.close()


def test_the_next_free_address_is_reserved_for_a_name_and_again_the_same(world: World) -> None:
    assert world.reserve(container="web") == "9.0.0.130"
    assert world.reserve(container="db") == "9.0.0.131"
    assert world.reserve(container="web") == "9.0.0.130"
    assert world.usage() == (125, 0, 2, 123)


def test_a_running_container_has_the_address_reserved_that_it_has(world: World) -> None:
    world.run_web()
    assert world.reserve(container="web") == "9.0.0.130"
    assert world.usage() == (125, 1, 0, 124)
    assert world.listed() == [("9.0.0.130", None, "bound", "web", True)]


@pytest.mark.parametrize("address", ["9.0.0.200", "9.0.0.205"])
def test_what_a_container_has_of_a_range_that_is_held_back_is_not_reserved_twice(world: World, address: str) -> None:
    world.reserve("9.0.0.200-9.0.0.220")
    create_network(world.store, NOW)
    create_endpoint(world.store, WEB, address, NOW)
    world.docker.networks = (shown((WEB, "web", address)),)
    world.agent.look()
    with pytest.raises(InUse, match=rf"{address} is not free to reserve: 9.0.0.200-9.0.0.220 is held back; `dni"):
        world.reserve(container="web")
    assert world.reserve("9.0.0.200-9.0.0.220") == "9.0.0.200-9.0.0.220"


def test_an_address_of_the_mesos_half_is_for_no_container_by_name(world: World) -> None:
    with pytest.raises(Refused, match=r"9\.0\.0\.10 lies in the Mesos half, .* leave --for out"):
        world.reserve("9.0.0.10", "web")
    assert world.reserve("9.0.0.10") == "9.0.0.10"


def test_it_can_be_named_too(world: World) -> None:
    world.run_web()
    assert world.reserve("9.0.0.130", "web") == "9.0.0.130"


def test_an_address_in_use_is_refused_with_who_has_it(world: World) -> None:
    world.run_web()
    claim(world.store, "9.0.0.140", NOW)
    claim(world.store, "9.0.0.150", NOW, AddressState.RESERVED)
    for addresses_, container, holder in (
        ("9.0.0.130", "db", "9.0.0.130 is in use by container web"),
        ("9.0.0.130", None, "9.0.0.130 is in use by container web"),
        ("9.0.0.135-9.0.0.145", None, "9.0.0.140 is in use by a container that is starting or was just stopped"),
        ("9.0.0.150", "db", "9.0.0.150 is in use by the network itself"),
    ):
        with pytest.raises(InUse, match=holder):
            world.reserve(addresses_, container)
    assert read_all(world.store).reservations == []


def test_one_that_was_freed_longest_ago_is_next_where_no_other_is_left(world: World) -> None:
    create_network(world.store, NOW)
    with world.store.write() as tx:
        everything = [Span(ip_address("9.0.0.130"), ip_address("9.0.0.254"))]
        while addresses.claim_next(tx, "dcos/v4", everything, NOW) is not None:
            pass
    with pytest.raises(Exhausted, match="125 of 125 used, 0 reserved"):
        world.reserve(container="web")
    with world.store.write() as tx:
        for last in (200, 150):
            addresses.free(tx, "dcos/v4", ip_address(f"9.0.0.{last}"), NOW)
    assert world.reserve(container="web") == "9.0.0.200"
    assert world.usage() == (125, 123, 1, 1)


def test_an_overlay_nobody_knows_is_named(world: World) -> None:
    with pytest.raises(NotFound, match="there is no overlay 'nobody'"):
        world.reserve("9.0.0.140", overlay="nobody")
    with pytest.raises(NotFound, match="there is no overlay 'nobody'"):
        world.agent.release(read_wish("nobody", "9.0.0.140"))


def test_an_address_outside_this_agents_halves_is_refused_with_those(world: World) -> None:
    with pytest.raises(Refused, match=r"9\.0\.7\.1 lies outside .*: choose one of 9\.0\.0\.130 to 9\.0\.0\.254"):
        world.reserve("9.0.7.1")


def test_a_host_without_a_part_of_the_overlay_says_so(world: World) -> None:
    with world.store.write() as tx:
        tx.execute("DELETE FROM agent_subnet WHERE overlay = 'dcos'")
    with pytest.raises(Unavailable, match="no agent subnet of overlay 'dcos' yet"):
        world.reserve(container="web")


def test_each_family_has_a_reservation_of_its_own(world: World) -> None:
    assert world.reserve(container="web", overlay="dual") == "10.64.0.130"
    six = world.agent.reserve(read_wish("dual", container="web", family=6))
    assert six.first == "fd01:b::8000:0:2"
    assert [written(one) for one in world.agent.release(read_wish("dual", container="web"))] == [
        "10.64.0.130",
        "fd01:b::8000:0:2",
    ]


def test_ipv6_ranges_may_be_as_long_as_one_likes(world: World) -> None:
    assert world.reserve("fd01:b::8000:1:0/112", overlay="dual") == "fd01:b::8000:1:0-fd01:b::8000:1:ffff"
    counted = next(one for one in world.agent.overlays() if one.name == "dual").usage.v6
    assert counted is not None
    assert counted.reserved == 1 << 16


def test_what_is_reserved_is_listed_with_its_name_in_the_order_of_addresses(world: World) -> None:
    world.run_web()
    world.reserve("9.0.0.140", "db")
    world.reserve("9.0.0.132-9.0.0.135")
    assert world.listed() == [
        ("9.0.0.130", None, "bound", "web", False),
        ("9.0.0.132", "9.0.0.135", "reserved", None, True),
        ("9.0.0.140", None, "reserved", "db", True),
    ]


def test_a_reserved_address_that_is_free_again_is_listed_once(world: World) -> None:
    world.run_web()
    world.reserve("9.0.0.130", "web")
    with world.store.write() as tx:
        addresses.unbind(tx, WEB, NOW)
        addresses.release(tx, "dcos/v4", ip_address("9.0.0.130"), NOW)
    assert world.listed(with_free=True) == [("9.0.0.130", None, "reserved", "web", True)]


def test_what_is_given_up_is_anybodys_again(world: World) -> None:
    world.reserve("9.0.0.130", "web")
    world.reserve("9.0.0.131-9.0.0.140")
    assert world.release("9.0.0.131-9.0.0.140") == ["9.0.0.131-9.0.0.140"]
    assert world.release(container="web") == ["9.0.0.130"]
    assert world.usage() == (125, 0, 0, 125)
    with pytest.raises(NotFound, match="--for web is not reserved in overlay 'dcos'"):
        world.release(container="web")


def test_the_way_to_start_it_is_told_once_there_is_a_network(world: World) -> None:
    assert world.agent.reserve(read_wish("dcos", container="web")).docker_run is None
    create_network(world.store, NOW)
    world.docker.networks = (shown(),)
    world.agent.look()
    told = world.agent.reserve(read_wish("dcos", container="web")).docker_run
    assert told == "--name web --net dcos --ip 9.0.0.130"
    assert world.agent.reserve(read_wish("dcos", "9.0.0.150")).docker_run is None


def test_a_look_tells_who_is_at_the_wrong_address_until_it_is_not(world: World) -> None:
    world.run_web()
    world.reserve("9.0.0.140", "web")
    (told,) = world.agent.look()
    assert told.startswith("container web has 9.0.0.130, not 9.0.0.140")
    world.release(container="web")
    assert world.agent.look() == []


def test_an_overlay_with_reservations_stays(world: World) -> None:
    world.reserve("10.64.0.140", overlay="dual")
    with pytest.raises(InUse, match=r"overlay 'dual' has reserved addresses \(10\.64\.0\.140\): release them first"):
        world.agent.remove_overlay("dual")
    world.agent.release(read_wish("dual", "10.64.0.140"))
    world.agent.remove_overlay("dual")


def test_the_collector_leaves_alone_what_is_reserved(world: World) -> None:
    world.reserve("9.0.0.140", "web")
    world.reserve("9.0.0.150-9.0.0.160")
    before = read_all(world.store).reservations
    for _ in range(3):
        world.agent.look()
        world.clock.pass_by(10_000)
    world.agent.repair()
    assert read_all(world.store).reservations == before
    assert world.agent.check() == []


def test_two_containers_do_not_share_what_is_reserved_for_one(world: World) -> None:
    world.reserve("9.0.0.140", "web")
    for container in ("db", None):
        with pytest.raises(InUse, match=r"9\.0\.0\.140 is reserved for container web"):
            world.reserve("9.0.0.140", container)
