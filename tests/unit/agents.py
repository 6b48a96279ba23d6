# SPDX-License-Identifier: Apache-2.0
"""What the agent meets in its tests: a kernel where containers may answer, a Docker that shows what it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address, ip_interface
from queue import SimpleQueue
from typing import Any

from dni_driver.agent.ports import DockerEvent, Time
from dni_driver.core.docker_networks import ListedNetwork
from dni_driver.core.errors import KernelError, Refused, Unavailable
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import Address
from dni_driver.core.records import AddressState, EndpointRecord, NetworkRecord, Records
from dni_driver.core.views import DockerEndpoint, DockerNetwork, DockerView
from dni_driver.core.wanted import Link
from dni_driver.store import Store, addresses, endpoints, networks, pools
from tests.fakes import AGENT, FakeClock, FakeKernel

NETWORK = "d" * 64
WEB = "1" * 64
DB = "2" * 64
SANDBOX = "/run/docker/netns/x"


class AgentsKernel(FakeKernel):
    """A kernel whose containers answer where `alive` says so, and whose links have the names in `ifnames`.

    It cannot be asked about addresses in `unaskable`.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.address = AGENT
        self.alive: set[str] = set()
        self.unaskable: set[str] = set()
        self.ifnames: dict[str, str] = {}
        self.detached: list[str] = []
        self.reconciled = threading.Event()
        self.when_asked: Callable[[], None] = lambda: None
        self._news: SimpleQueue[bool] = SimpleQueue()

    def tell_news(self) -> None:
        """Have news of links."""
        self._news.put(True)  # noqa: FBT003

    def link_news(self) -> Iterator[None]:
        """Tell the news there are."""
        while self._news.get():
            yield

    def hush(self) -> None:
        """End the news."""
        self._news.put(False)  # noqa: FBT003

    def agent_address(self) -> Address:
        """Answer the address of the moment."""
        return self.address

    def answers(self, address: Address) -> bool:
        """Tell whether an address is alive."""
        self.when_asked()
        if str(address) in self.unaskable:
            raise KernelError("the kernel cannot be asked: Permission denied")
        return str(address) in self.alive

    def ifname_in_sandbox(self, link: Link) -> str | None:
        """Answer the name of a link, by its endpoint."""
        return self.ifnames.get(link.endpoint)

    def detach(self, endpoints: object) -> None:
        """Note the endpoints."""
        self.detached += list(endpoints)  # type: ignore[call-overload]

    def reconcile(self, read_wanted: Callable[[], object]) -> list[str]:
        """Note that it was called."""
        try:
            return super().reconcile(read_wanted)  # type: ignore[arg-type]
        finally:
            self.reconciled.set()


class FakeDocker:
    """A Docker that shows `networks`, is away where `away` says why, and passes on what is put into `news`."""

    def __init__(self, *networks: DockerNetwork) -> None:
        """Begin with some networks."""
        self.networks = networks
        self.away: str | None = None
        self.news: Iterable[DockerEvent] = []
        self.stream_ends = threading.Event()
        self.looked = threading.Event()
        self.when_asked: Callable[[], None] = lambda: None
        self.bodies: list[dict[str, Any]] = []
        self.made: list[ListedNetwork] = []
        self.refusal: str | None = None
        self.when_created: Callable[[dict[str, Any]], None] = lambda _: None
        self.when_removed: Callable[[str], None] = lambda _: None

    def version(self) -> str:
        """Answer a version."""
        self._check()
        return "28.5.2"

    def view(self, _: Records) -> DockerView:
        """Answer the networks."""
        self.looked.set()
        self._check()
        self.when_asked()
        return DockerView(networks=self.networks)

    def events(self) -> Iterator[DockerEvent]:
        """Answer the news there are, and end when told to."""
        self._check()
        return self._read()

    def listed(self) -> list[ListedNetwork]:
        """Answer the networks, those of others too."""
        self._check()
        listed = [ListedNetwork(id=one.id, name=one.name, driver=one.driver) for one in self.networks]
        return [*listed, *self.made]

    def create_network(self, body: dict[str, Any]) -> None:
        """Note what is to be created, or refuse it."""
        self._check()
        if self.refusal is not None:
            raise Refused(self.refusal)
        self.bodies.append(body)
        self.made.append(
            ListedNetwork(
                id=f"{len(self.bodies):064}", name=body["Name"], driver=body["Driver"], labels=body["Labels"]
            )
        )
        self.when_created(body)

    def remove_network(self, network: str) -> None:
        """Remove one that was created."""
        self._check()
        if self.refusal is not None:
            raise Refused(self.refusal)
        self.made = [one for one in self.made if one.id != network]
        self.when_removed(network)

    def close(self) -> None:
        """End the events."""
        self.stream_ends.set()

    def _read(self) -> Iterator[DockerEvent]:
        yield from self.news
        self.stream_ends.wait(60)

    def _check(self) -> None:
        if self.away is not None:
            raise Unavailable(self.away)


def frozen(clock: FakeClock) -> Time:
    """Answer a time in which sleeping is what makes it pass."""
    return Time(clock=clock, monotonic=clock, sleep=clock.pass_by)


def claim(store: Store, text: str, now: float, state: AddressState = AddressState.CLAIMED) -> None:
    """Record an address of dcos as dockerd has it after RequestAddress."""
    with store.write() as tx:
        addresses.hold(tx, "dcos/v4", ip_address(text), state, now)


NO_OPTIONS = NetworkOptions()


def create_network(store: Store, now: float, options: NetworkOptions = NO_OPTIONS) -> None:
    """Record the Docker network of dcos."""
    gateway = ip_interface("9.0.0.129/25")
    assert gateway.version == 4
    with store.write() as tx:
        pools.use_overlay(tx, "dcos", 4, None, now)
        networks.add(
            tx,
            NetworkRecord(id=NETWORK, overlay="dcos", options=options, mtu=1450, gateway=gateway, since=now),
        )


def create_endpoint(store: Store, endpoint: str, text: str, now: float) -> None:
    """Record an endpoint on dcos in a sandbox, as after Join."""
    claim(store, text, now)
    interface = ip_interface(f"{text}/25")
    assert interface.version == 4
    record = EndpointRecord(id=endpoint, network=NETWORK, mac="02:42:09:00:00:82", address=interface, since=now)
    with store.write() as tx:
        endpoints.add(tx, record)
        addresses.bind(tx, "dcos/v4", interface.ip, record, now)
        endpoints.joined(tx, endpoint, SANDBOX)


def shown(*containers: tuple[str, str, str]) -> DockerNetwork:
    """Answer dcos as Docker shows it, with containers as endpoint, name and address."""
    return DockerNetwork(
        id=NETWORK,
        name="dcos",
        driver="dni",
        ipam_driver="dni",
        subnets=("9.0.0.128/25",),
        addresses=(ip_address("9.0.0.129"),),
        endpoints=tuple(
            DockerEndpoint(id=endpoint, container=name, addresses=(ip_address(text),))
            for endpoint, name, text in containers
        ),
    )
