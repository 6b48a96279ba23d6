# SPDX-License-Identifier: Apache-2.0
"""An overlay goes once every host has given it up, whatever dies or is cut off meanwhile; one that is used stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, ip_interface, ip_network
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dni_driver.agent import occupancy, removal
from dni_driver.agent.agent import Agent
from dni_driver.agent.cni import CniOptions
from dni_driver.agent.options import Options
from dni_driver.core.addresses.reservations import Wish
from dni_driver.core.errors import InUse, NotFound, Unavailable
from dni_driver.core.mtu import Underlay
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import Address, Overlay, define
from dni_driver.core.records import AddressState, NetworkRecord
from dni_driver.registry import Registry, open_registry
from dni_driver.store import Store, addresses, leaving, networks, overlays, pools
from dni_driver.store.forget import forget_network
from tests.fakes import DCOS, UNDERLAY_MTU, FakeClock
from tests.scratch import fast_directory
from tests.unit.agents import AgentsKernel, FakeDocker, frozen

DEV = define("dev", [ip_network("10.64.0.0/16")])
OVER = define("over", [ip_network("10.64.7.0/24")], (26, None))
FIRST = IPv4Address("192.0.2.11")
KINDS = ["local", pytest.param("zookeeper", marks=pytest.mark.zookeeper)]


class Died(BaseException):
    """The end of a process."""


class Mortal:
    """A registry whose agent may end before or after anything that it writes there."""

    def __init__(self, registry: Registry, reach: Callable[[], None]) -> None:
        """`reach` is called around each write."""
        self._registry, self._reach = registry, reach

    def __getattr__(self, name: str) -> Any:
        """Answer what the registry can do."""
        call = getattr(self._registry, name)
        if name not in ("begin_removal", "give_back", "keep", "end_removal", "lease", "confirm", "define"):
            return call

        def mortal(*words: object) -> object:
            self._reach()
            answer = call(*words)
            self._reach()
            return answer

        return mortal


class _Kernel(AgentsKernel):
    """A kernel on a host of any address."""

    def underlay(self, _: Address) -> Underlay:
        """Answer the one link there is."""
        return Underlay(link="eth0", mtu=UNDERLAY_MTU)


class Host:
    """A host whose agent does nothing by itself, with a Docker whose networks are recorded as the plugin does."""

    def __init__(self, url: str, disk: Path, shared: Path, number: int) -> None:
        """Take part in what there is; `number` counts hosts from 0."""
        self.disk, self.ip = disk, FIRST + number
        self._url, self._shared = url, shared
        self.docker, self.clock = FakeDocker(), FakeClock()
        self.docker.when_created, self.docker.when_removed = self._created, self._removed
        self.dies_at: int | None = None
        self.writes = 0
        self.registry: Registry | None = None
        self.start()

    def start(self, default: Overlay | None = DCOS) -> None:
        """Begin anew, as another process does."""
        self.stop()
        self.registry = open_registry(self._url, self._shared)
        self.plugin = Store(self.disk / "dni.db")
        self.store = Store(self.disk / "dni.db", lambda _: self._reach())
        self.agent = Agent(
            store=self.store,
            kernel=_Kernel(),
            registry=Mortal(self.registry, self._reach),
            docker=self.docker,
            options=Options(
                default_overlay=default,
                agent_ip=self.ip,
                create_networks=True,
                cni=CniOptions(directory=self.disk / "cni", held=(self.disk / "held",)),
            ),
            time=frozen(self.clock),
        )
        self.look()

    def stop(self) -> None:
        """End without a word."""
        if self.registry is not None:
            self.registry.close()
            self.store.close()
            self.plugin.close()
        self.registry = None

    def look(self) -> list[str]:
        """Do what the agent does when it hears of something."""
        with suppress(Unavailable):
            problems = self.agent._rounds._join()  # noqa: SLF001 - what its loop does
            self.agent._parts.networking.look()  # noqa: SLF001 - likewise
            self.agent._parts.cni.round()  # noqa: SLF001 - likewise
            self.agent._parts.presence.tell()  # noqa: SLF001 - likewise
            return list(problems)
        return ["away"]

    def overlays(self) -> list[str]:
        """Name the overlays in the store, those that are leaving with a mark."""
        return [f"{one.name} leaves" if one.leaving else one.name for one in self.agent.overlays()]

    def holds(self) -> list[str]:
        """Answer the agent subnets in the store."""
        with self.store.read() as tx:
            return [f"{one.overlay} {one.subnet}" for one in overlays.agent_subnets(tx)]

    def networks(self) -> list[str]:
        """Name the networks that were made and are there."""
        return [one.name for one in self.docker.made]

    def start_container(self, overlay: str = "dev") -> None:
        """Record an address as the plugin does; raise what it would."""
        with self.plugin.write() as tx:
            leaving.check(tx, overlay)
            (held, *_) = overlays.agent_subnets(tx, overlay)
            address = held.docker_half.network_address + 2
            addresses.hold(tx, f"{overlay}/v4", address, AddressState.CLAIMED, self.clock.now)

    def stop_container(self, overlay: str = "dev") -> None:
        """Free that address."""
        with self.plugin.write() as tx:
            tx.execute("DELETE FROM address WHERE pool = ?", (f"{overlay}/v4",))

    def _reach(self) -> None:
        self.writes += 1
        if self.writes - 1 == self.dies_at:
            raise Died

    def _created(self, body: dict[str, Any]) -> None:
        overlay = body["IPAM"]["Options"]["overlay"]
        gateway = ip_interface("10.64.0.129/25")
        assert gateway.version == 4
        with self.plugin.write() as tx:
            pools.use_overlay(tx, overlay, 4, None, 1.0)
            networks.add(
                tx,
                NetworkRecord(
                    id=self.docker.made[-1].id, overlay=overlay, options=NetworkOptions(), mtu=1450, gateway=gateway
                ),
            )

    def _removed(self, identity: str) -> None:
        with self.plugin.write() as tx:
            forget_network(tx, identity, self.clock.now)


Make = Callable[[int], Host]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> str:
    return "local" if request.param == "local" else str(request.getfixturevalue("zookeeper_url"))


@pytest.fixture
def make(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(removal, "ANSWER_SECONDS", 0.0)
    monkeypatch.setattr(occupancy, "DATA_DIRECTORIES", ())
    made: list[Host] = []
    with fast_directory() as directory:
        shared = Path(directory, "shared")
        shared.mkdir()

        def make(number: int) -> Host:
            disk = Path(directory, f"disk{len(made)}")
            disk.mkdir()
            made.append(Host(url, disk, shared, number))
            return made[-1]

        yield make
        for host in made:
            host.stop()


@pytest.fixture
def two(make: Make) -> list[Host]:
    """Two hosts with their parts of `dev`."""
    one, other = make(0), make(1)
    one.agent.define_overlay(DEV)
    other.look()
    return [one, other]


def registered(host: Host) -> list[str]:
    assert host.registry is not None
    return [overlay.name for overlay in host.registry.overlays()]


def begin(host: Host) -> None:
    """Remove `dev`, which another host has still to answer."""
    with pytest.raises(Unavailable, match="'dev' is being removed, and no answer has come from "):
        host.agent.remove_overlay("dev")


@contextmanager
def kept_by(other: Host) -> Iterator[None]:
    """Somebody who removes an overlay waits for another host, which says that it uses it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(removal, "ANSWER_SECONDS", 60.0)
        patch.setattr(removal, "sleep", lambda _: other.agent._parts.removal.look())  # noqa: SLF001 - what its loop does
        with pytest.raises(InUse, match=f"is in use on {other.ip}: remove its containers"):
            yield


def test_it_goes_when_all_have_given_it_up_with_its_networks_everywhere(two: list[Host]) -> None:
    one, other = two
    assert one.networks() == other.networks() == ["dcos", "dev"]
    begin(one)
    assert (one.overlays(), other.overlays()) == (["dcos", "dev leaves"], ["dcos", "dev"])
    assert (len(one.holds()), len(other.holds())) == (1, 2)
    assert registered(one) == ["dcos", "dev"]
    assert other.look() == []
    assert registered(one) == ["dcos"]
    assert one.look() == other.look() == []
    assert one.overlays() == other.overlays() == ["dcos"]
    assert one.networks() == other.networks() == ["dcos"]


def test_who_has_not_answered_is_named_with_what_to_do(two: list[Host]) -> None:
    one, other = two
    with pytest.raises(
        Unavailable,
        match=rf"from {other.ip}: it goes by itself when .*`dni agent forget IP`; .* off: dni overlay keep dev$",
    ):
        one.agent.remove_overlay("dev")


def test_nothing_is_begun_with_it_where_that_was_heard(two: list[Host]) -> None:
    one, _ = two
    begin(one)
    with pytest.raises(
        InUse, match=rf"'dev' is being removed, as agent {one.ip} was told to: .*dni overlay keep dev"
    ):
        one.start_container()
    with pytest.raises(InUse, match="'dev' is being removed"):
        one.agent.reserve(Wish(overlay="dev", container="web"))
    for overlay in (DEV, OVER):
        with pytest.raises(InUse, match="'dev'"):
            one.agent.define_overlay(overlay)
    one.look()
    assert one.networks() == ["dcos"]


def test_a_host_that_has_begun_to_use_it_before_it_heard_keeps_it_and_is_named(two: list[Host]) -> None:
    one, other = two
    begin(one)
    other.start_container()
    assert other.look() == []
    with pytest.raises(InUse, match=f"'dev' is in use on {other.ip}: remove its containers"):
        one.agent.remove_overlay("dev")
    one.look()
    assert one.overlays() == other.overlays() == ["dcos", "dev"]
    assert (len(one.holds()), len(other.holds())) == (2, 2)
    assert one.networks() == other.networks() == ["dcos", "dev"], "its network came back where it had gone"
    other.stop_container()
    other.look()
    begin(one)


def test_what_a_crash_kept_out_of_the_store_of_its_holder_is_given_back_too(make: Make) -> None:
    one, other = make(0), make(1)
    one.agent.define_overlay(DEV)
    assert other.registry is not None
    other.registry.lease("dev", 4, other.ip)
    begin(one)
    other.look()
    assert registered(one) == ["dcos"]


def test_a_host_that_uses_it_refuses_no_container_there_meanwhile(
    two: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    begin(one)
    other.start_container()
    marked: list[str] = []
    monkeypatch.setattr(leaving, "mark", lambda _tx, overlay, _remover: marked.append(overlay))
    other.look()
    assert marked == []


def test_what_a_host_said_of_itself_before_does_not_keep_it_once_that_is_over(two: list[Host]) -> None:
    """It is told every some seconds; who removes the network and then the overlay does not wait for that."""
    one, _ = two
    assert one.registry is not None
    one.registry.use(one.ip, ["dev"])
    begin(one)


def test_its_removal_can_be_called_off(two: list[Host]) -> None:
    one, other = two
    begin(one)
    other.agent.keep_overlay("dev")
    one.look()
    other.look()
    assert one.overlays() == other.overlays() == ["dcos", "dev"]
    assert one.networks() == ["dcos", "dev"]
    one.start_container()
    with pytest.raises(NotFound):
        one.agent.keep_overlay("unknown")


def test_who_waits_is_told_that_it_was_called_off(two: list[Host], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    monkeypatch.setattr(removal, "ANSWER_SECONDS", 60.0)
    monkeypatch.setattr(removal, "sleep", lambda _: other.agent.keep_overlay("dev"))
    with pytest.raises(InUse, match=r"'dev' stays: its removal was called off meanwhile \(dni overlay keep dev\)"):
        one.agent.remove_overlay("dev")


def test_anyone_may_go_on_with_a_removal_whose_remover_is_gone(two: list[Host]) -> None:
    one, other = two
    begin(one)
    one.stop()
    other.agent.remove_overlay("dev")
    assert registered(other) == other.overlays() == ["dcos"]


def test_it_goes_by_itself_when_a_host_is_forgotten_that_never_answered(two: list[Host]) -> None:
    one, other = two
    begin(one)
    other.stop()
    assert one.registry is not None
    while other.ip in one.registry.alive():
        time.sleep(0.05)
    one.agent.forget_agent(other.ip)
    one.look()
    assert registered(one) == one.overlays() == ["dcos"]


def test_a_host_that_joins_while_it_is_leaving_takes_none_of_it(make: Make, two: list[Host]) -> None:
    one, other = two
    begin(one)
    late = make(2)
    assert (late.overlays(), len(late.holds())) == (["dcos"], 1)
    other.look()
    assert registered(late) == ["dcos"]


def test_one_that_is_the_default_of_another_host_is_kept_by_that(make: Make) -> None:
    one, other = make(0), make(1)
    one.start(default=None)
    with kept_by(other):
        one.agent.remove_overlay("dcos")
    other.look()
    assert (other.overlays(), len(other.holds())) == (["dcos"], 1)


def test_another_may_be_defined_in_its_place_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default overlay of settings that have changed: each host defines it as soon as the old one is gone."""
    one, other = make(0), make(1)
    changed = define("dcos", [ip_network("10.9.0.0/16")])
    for host in (one, other):
        host.start(default=changed)
    monkeypatch.setattr(removal, "ANSWER_SECONDS", 60.0)
    monkeypatch.setattr(removal, "sleep", lambda _: (other.look(), other.look()))
    one.agent.remove_overlay("dcos")
    assert other.holds() == ["dcos 10.9.0.0/24"]
    one.look()
    assert one.holds() == ["dcos 10.9.1.0/24"]


def test_while_docker_is_away_its_network_and_it_stay_and_nobody_says_that_it_is_used(two: list[Host]) -> None:
    one, other = two
    begin(one)
    other.docker.away = "dockerd does not answer"
    (problem,) = other.agent._parts.removal.look()  # noqa: SLF001 - what its loop does
    assert problem == (
        "overlay 'dev' is being removed, and stays on this host for now: dockerd does not answer; it goes by itself "
        "after that; to call the removal off: dni overlay keep dev"
    )
    assert other.agent._parts.removal.is_hindered, "it is tried again as soon as dockerd is back"  # noqa: SLF001
    with pytest.raises(InUse, match="is being removed"):
        other.start_container()
    other.docker.away = None
    assert other.look() == []
    assert registered(one) == ["dcos"]


def test_who_removes_it_is_told_what_hinders_that_here(two: list[Host]) -> None:
    one, other = two
    one.docker.away = "dockerd does not answer"
    with pytest.raises(
        Unavailable, match=r"'dev' is being removed, and stays on this host for now: dockerd does not"
    ):
        one.agent.remove_overlay("dev")
    one.docker.away = None
    one.look()
    other.look()
    assert registered(one) == ["dcos"]


def test_a_network_of_the_users_own_keeps_it(two: list[Host]) -> None:
    one, other = two
    other.docker.remove_network(next(network.id for network in other.docker.made if network.name == "dev"))
    with other.store.write() as tx:
        networks.add(tx, NetworkRecord(id="e" * 64, overlay="dev", options=NetworkOptions(), mtu=1450))
    with kept_by(other):
        one.agent.remove_overlay("dev")
    assert "dev" in other.overlays()


def test_containers_of_host_local_keep_it_and_no_runtime_finds_it_while_it_leaves(two: list[Host]) -> None:
    one, other = two
    configuration = other.disk / "cni" / "dev.conf"
    assert configuration.exists()
    (other.disk / "held" / "dev").mkdir(parents=True)
    (other.disk / "held" / "dev" / "10.64.1.2").write_text("c1\r\neth0")
    with kept_by(other):
        one.agent.remove_overlay("dev")
    assert not (one.disk / "cni" / "dev.conf").exists()
    other.look()
    assert configuration.exists()


def test_what_a_lost_registry_had_of_it_is_not_put_back_from_where_it_was_leaving(
    two: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = two
    begin(one)
    assert one.registry is not None
    with monkeypatch.context() as patch:
        patch.setattr(type(one.registry), "overlays", lambda _: [])
        defined: list[str] = []
        patch.setattr(type(one.registry), "define", lambda _, overlay: defined.append(overlay.name))
        one.agent._parts.joining._agreement.refill()  # noqa: SLF001 - what joining an empty registry does first
    assert defined == ["dcos"]


def test_a_host_that_was_forgotten_and_comes_back_with_containers_keeps_what_is_leaving(two: list[Host]) -> None:
    one, other = two
    other.start_container()
    assert one.registry is not None
    (lost,) = [lease for lease in one.registry.leases(other.ip) if lease.held.overlay == "dev"]
    one.registry.give_back(lost.held, other.ip)
    one.registry.begin_removal("dev", one.ip)
    other.look()
    other.look()
    assert lost in one.registry.leases(other.ip)
    assert "dev" in other.overlays()


def sound(*hosts: Host) -> None:
    """No host could start a container on what it does not hold in the registry."""
    for host in hosts:
        assert host.registry is not None
        leased = [f"{one.held.overlay} {one.held.subnet}" for one in host.registry.leases(host.ip)]
        with host.store.read() as tx:
            marked = leaving.every(tx)
        assert [one for one in host.holds() if one not in leased and one.split()[0] not in marked] == []


@pytest.mark.parametrize("who", ["the remover", "another"])
@pytest.mark.parametrize("called_off", [False, True], ids=["it goes", "it is called off"])
def test_an_agent_that_ends_at_any_write_leaves_it_to_the_next_look(
    make: Make, who: str, *, called_off: bool
) -> None:
    one, other = make(0), make(1)
    mortal = one if who == "the remover" else other
    for place in count():
        one.agent.define_overlay(DEV)
        other.look()
        one.look()
        assert (len(one.holds()), len(other.holds())) == (2, 2)
        mortal.writes, mortal.dies_at = 0, place
        died = False
        try:
            with suppress(Unavailable):
                one.agent.remove_overlay("dev")
            other.look()
        except Died:
            died = True
        mortal.dies_at = None
        sound(one, other)
        if called_off and "dev" in registered(other if mortal is one else one):
            (other if mortal is one else one).agent.keep_overlay("dev")
        mortal.start()
        sound(one, other)
        for host in (one, other, one, other, one):
            host.look()
            sound(one, other)
        if "dev" in registered(one):
            assert one.overlays() == other.overlays() == ["dcos", "dev"]
            assert one.networks() == other.networks() == ["dcos", "dev"]
            one.start_container()
            other.start_container()
            one.stop_container()
            other.stop_container()
            one.agent._parts.presence.tell()  # noqa: SLF001 - that it is used no more
            other.agent._parts.presence.tell()  # noqa: SLF001 - likewise
            with suppress(Unavailable):
                one.agent.remove_overlay("dev")
            other.look()
            one.look()
            other.look()
        assert registered(one) == one.overlays() == other.overlays() == ["dcos"]
        assert one.networks() == other.networks() == ["dcos"]
        if not died:
            break
    assert place > 4
