# SPDX-License-Identifier: Apache-2.0
"""Hosts whose agents do nothing by themselves, on an overlay that is to be removed, with either kind of registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from dni_driver.agent import occupancy, removal
from dni_driver.agent.agent import Agent
from dni_driver.agent.cni import CniOptions
from dni_driver.agent.options import Options
from dni_driver.core.errors import InUse, Unavailable
from dni_driver.core.mtu import Underlay
from dni_driver.core.options.network import parse_options
from dni_driver.core.overlays import Address, Overlay, define
from dni_driver.core.records import AddressState, NetworkRecord
from dni_driver.registry import Registry, open_registry
from dni_driver.store import Store, addresses, leaving, networked, networks, overlays, pools
from dni_driver.store.forget import forget_network
from tests.fakes import DCOS, UNDERLAY_MTU, FakeClock
from tests.scratch import fast_directory
from tests.unit.agents import AgentsKernel, FakeDocker, frozen

DEV = define("dev", [ip_network("10.64.0.0/16")])
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
                    id=self.docker.made[-1].id,
                    overlay=overlay,
                    options=parse_options(body["Options"]),
                    mtu=1450,
                    gateway=gateway,
                ),
            )
            networked.note(tx, overlay, made=True)

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
