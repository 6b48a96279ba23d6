# SPDX-License-Identifier: Apache-2.0
"""What an agent tells of itself, and when a host that is cut off stops handing out addresses."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any, cast

import pytest

from dni_driver.agent import occupancy
from dni_driver.agent.identity import Identity
from dni_driver.agent.joining import Joining
from dni_driver.agent.ports import Time
from dni_driver.agent.presence import Presence
from dni_driver.core.errors import InUse, Unavailable
from dni_driver.core.overlays import define
from dni_driver.registry import Host, Registry, open_registry
from dni_driver.store import Store, fence, pools
from dni_driver.store.claiming import ANY, claim, halves_of
from tests.fakes import AGENT, DCOS, FakeClock
from tests.members import joined
from tests.removing import remove
from tests.scratch import fast_directory
from tests.unit.agents import create_network
from tests.unit.meanwhile import before

OTHER = IPv4Address("192.0.2.20")
HOUR = 3600.0


class _Cut:
    """A registry that cannot be reached while `away` says so, and counts the signs of life."""

    def __init__(self, registry: Registry) -> None:
        """Pass everything on."""
        self._registry = registry
        self.away = False
        self.signs = 0

    def __getattr__(self, name: str) -> Any:
        """Answer what the registry can do."""
        if self.away and name != "close":
            raise Unavailable("the registry does not answer")
        self.signs += name == "seen"
        return getattr(self._registry, name)


class Here:
    """A host that has joined."""

    def __init__(self, directory: Path, reclaim_after: float | None) -> None:
        """Join."""
        self.clock = FakeClock()
        self.directory = directory
        self.store = Store(directory / "dni.db")
        self.registry = _Cut(open_registry("local", directory))
        identity = Identity(self.store, lambda: AGENT, None, reclaim_after)
        self.joining = Joining(self.store, self.registry, identity, DCOS, self.clock)
        time = Time(clock=self.clock, monotonic=self.clock, sleep=self.clock.pass_by)
        self.presence = Presence(self.store, self.registry, self.joining, reclaim_after, time)
        self.joining.join()
        self.presence.tell()

    def until(self) -> float | None:
        """Answer until when addresses are handed out."""
        with self.store.read() as tx:
            return fence.find(tx)

    def start_container(self) -> None:
        """Claim an address, as the plugin does."""
        with self.store.write() as tx:
            pool = pools.use_overlay(tx, "dcos", 4, None, self.clock.now)
            claim(tx, pool, halves_of(tx, pool), ANY, self.clock.now)


@pytest.fixture
def directory() -> Iterator[Path]:
    with fast_directory() as directory:
        yield Path(directory)


@pytest.fixture
def here(directory: Path) -> Iterator[Here]:
    here = Here(directory, 2 * HOUR)
    yield here
    here.registry.close()
    here.store.close()


def test_a_host_that_is_cut_off_stops_handing_out_addresses_after_half_the_time(here: Here) -> None:
    began = here.clock.now
    here.registry.away = True
    here.clock.pass_by(HOUR - 1)
    assert here.presence.tell() == ["the registry does not answer"]
    here.start_container()
    here.clock.pass_by(2)
    (_, closed) = here.presence.tell()
    assert closed.startswith("this host hands out no new addresses since ")
    with pytest.raises(Unavailable, match=r"has not reached the registry for half of registry\.reclaim_after"):
        here.start_container()
    assert here.until() == began + HOUR


def test_a_sign_of_life_counts_from_when_it_was_begun_and_not_from_its_answer(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others count from when the registry had it, which may be as early as that."""
    here.clock.pass_by(HOUR / 2)
    began = here.clock.now
    monkeypatch.setattr(here.registry, "seen", lambda _: here.clock.pass_by(14), raising=False)
    assert here.presence.tell() == []
    assert here.until() == began + HOUR


def test_a_clock_that_is_set_back_does_not_let_it_go_on(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.registry.away = True
    before = fence.uptime()
    here.clock.pass_by(-24 * HOUR)
    monkeypatch.setattr(fence, "uptime", lambda: before + HOUR - 60)
    here.start_container()
    monkeypatch.setattr(fence, "uptime", lambda: before + HOUR + 60)
    with pytest.raises(Unavailable, match="hands out no new addresses since"):
        here.start_container()
    assert "no new addresses" in here.presence.tell()[-1]


def test_after_a_reboot_the_clock_of_the_wall_alone_counts(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "_boot", lambda: "another")
    monkeypatch.setattr(fence, "uptime", lambda: 1e9)
    here.start_container()
    here.clock.pass_by(HOUR + 60)
    with pytest.raises(Unavailable):
        here.start_container()


def test_it_goes_on_as_soon_as_the_registry_has_agreed_to_what_it_holds(here: Here) -> None:
    here.registry.away = True
    here.clock.pass_by(3 * HOUR)
    with pytest.raises(Unavailable):
        here.joining.join()
    here.registry.away = False
    (closed,) = here.presence.tell()
    assert "no new addresses" in closed
    here.joining.join()
    assert here.presence.tell() == []
    here.start_container()


def test_it_does_not_go_on_where_another_host_was_given_its_subnet(here: Here) -> None:
    """What is in use here cannot be forgotten: a person has to look."""
    create_network(here.store, here.clock.now)
    (mine,) = here.registry.leases(AGENT)
    here.registry.give_back(mine.held, AGENT)
    here.registry.confirm(mine.held, OTHER)
    here.clock.pass_by(3 * HOUR)
    (problem,) = here.joining.join()
    assert "is held by agent 192.0.2.20" in problem
    assert "no new addresses" in here.presence.tell()[0]
    with pytest.raises(Unavailable):
        here.start_container()


def test_a_sign_of_life_is_given_twenty_times_before_anybody_reclaims(here: Here) -> None:
    signs = here.registry.signs
    for _ in range(int(2 * HOUR / 5)):
        here.clock.pass_by(5)
        here.presence.tell()
    assert here.registry.signs - signs in range(20, 26)


def test_a_host_that_may_be_reclaimed_has_its_fence_before_anybody_knows(directory: Path) -> None:
    """An agent that ends right after it has registered gives no sign of life, and its plugin goes on."""
    store, clock = Store(directory / "dni.db"), FakeClock()
    found: list[float | None] = []

    class Dying(_Cut):
        def register(self, _: Host) -> None:
            with store.read() as tx:
                found.append(fence.find(tx))
            raise Unavailable("the registry does not answer")

    registry = Dying(open_registry("local", directory))
    joining = Joining(store, registry, Identity(store, lambda: AGENT, None, 2 * HOUR), DCOS, clock)  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        joining.join()
    clock.pass_by(60)
    with pytest.raises(Unavailable):
        joining.join()
    assert found == [clock.now - 60 + HOUR] * 2, "and joining again makes it no longer"
    registry.close()
    store.close()


def test_a_term_that_becomes_shorter_shortens_the_fence_and_a_longer_one_waits_for_a_sign(here: Here) -> None:
    began = here.clock.now
    for term, ends in ((4 * HOUR, began + HOUR), (HOUR, began + HOUR / 2), (2 * HOUR, began + HOUR / 2)):
        identity = Identity(here.store, lambda: AGENT, None, term)
        Joining(here.store, here.registry, identity, DCOS, here.clock).join()
        assert here.until() == ends


def test_joining_again_writes_nothing_where_the_fence_is_within_the_term(here: Here) -> None:
    before = here.store.version()
    here.joining.join()
    assert here.store.version() == before


def test_a_default_overlay_that_others_have_otherwise_keeps_no_host_from_being_heard_of(directory: Path) -> None:
    registry = open_registry("local", directory)
    registry.define(define("dcos", [ip_network("10.0.0.0/8")]))
    here = Here(directory, 2 * HOUR)
    for _ in range(4):
        here.clock.pass_by(HOUR / 2)
        (problem,) = here.joining.join()
        assert problem.startswith("the default overlay: overlay 'dcos' exists already, with 10.0.0.0/8")
        assert here.presence.tell() == []
        here.start_container()
    here.registry.close()
    here.store.close()
    registry.close()


def test_without_reclaiming_a_host_hands_out_addresses_for_ever_and_a_fence_of_before_is_gone(
    directory: Path,
) -> None:
    before = Here(directory, 2 * HOUR)
    assert before.until() is not None
    before.registry.close()
    before.store.close()
    here = Here(directory, None)
    assert here.until() is None
    here.registry.away = True
    here.clock.pass_by(1000 * HOUR)
    here.start_container()
    here.registry.away = False
    here.registry.close()
    here.store.close()


def test_a_plain_pool_is_no_business_of_the_cluster(here: Here) -> None:
    here.registry.away = True
    here.clock.pass_by(3 * HOUR)
    with here.store.write() as tx:
        pool = pools.use_plain(tx, ip_network("10.9.0.0/24"), None, here.clock.now)
        assert claim(tx, pool, halves_of(tx, pool), ANY, here.clock.now)


def test_what_is_used_here_is_told_and_a_network_that_went_is_told_too(here: Here) -> None:
    create_network(here.store, here.clock.now)
    here.presence.tell()
    with pytest.raises(InUse, match=r"'dcos' is in use on 192\.0\.2\.10"):
        remove(here.registry, "dcos")
    with here.store.write() as tx:
        tx.execute("DELETE FROM network")
        tx.execute("UPDATE pool SET uses = 0")
    here.presence.tell()
    remove(here.registry, "dcos")


def test_an_overlay_whose_addresses_host_local_has_given_to_containers_is_not_removed_on_another_host(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(occupancy, "DATA_DIRECTORIES", (tmp_path,))
    held = tmp_path / "dcos" / "9.0.0.2"
    held.parent.mkdir()
    held.write_text("c1\r\neth0")
    here.presence.tell()
    with pytest.raises(InUse, match=r"'dcos' is in use on 192\.0\.2\.10"):
        remove(here.registry, "dcos")
    held.unlink()
    here.presence.tell()
    remove(here.registry, "dcos")


def test_what_host_local_has_given_and_cannot_be_told_counts_as_used(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(occupancy, "DATA_DIRECTORIES", (tmp_path,))
    (tmp_path / "dcos").write_text("no directory")
    assert here.presence.tell() == []
    with pytest.raises(InUse, match=r"'dcos' is in use on 192\.0\.2\.10"):
        remove(here.registry, "dcos")


def test_a_host_that_another_keeps_from_being_an_agent_tells_nothing(here: Here) -> None:
    here.joining.registered_as = here.joining.settlement = None
    signs = here.registry.signs
    here.clock.pass_by(HOUR / 2)
    assert here.presence.tell() == []
    assert here.registry.signs == signs


def test_who_may_have_lost_what_it_held_hands_out_nothing_until_the_registry_has_agreed_again(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was frozen, and others reclaimed; its sign of life comes while it is being registered anew."""
    here.clock.pass_by(3 * HOUR)
    (mine,) = here.registry.leases(AGENT)
    here.registry.give_back(mine.held, AGENT)
    joined(here.registry, OTHER).confirm(mine.held, OTHER)

    def lost() -> None:
        raise Unavailable("the registry does not answer")

    def register_anew() -> None:
        monkeypatch.setattr(here.registry, "overlays", lost, raising=False)
        with pytest.raises(Unavailable, match="the registry does not answer"):
            here.joining.join()

    time = Time(clock=here.clock, monotonic=here.clock, sleep=here.clock.pass_by)
    registry = before(cast("Registry", here.registry), "seen", register_anew)
    told = Presence(here.store, registry, here.joining, 2 * HOUR, time).tell()
    assert told[-1].startswith("this host hands out no new addresses since ")
    with pytest.raises(Unavailable, match="this host hands out no new addresses"):
        here.start_container()


def test_agents_that_are_gone_for_too_long_are_reclaimed_by_one_that_lives(here: Here) -> None:
    gone = open_registry("local", here.directory)
    gone.register(Host(agent_ip=OTHER, identity="other", boot="b", reclaim_after=0.001))
    gone.close()
    here.clock.pass_by(HOUR)
    here.presence.tell()
    assert [member.agent_ip for member in here.registry.members()] == [AGENT]
