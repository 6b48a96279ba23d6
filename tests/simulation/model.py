# SPDX-License-Identifier: Apache-2.0
"""What a simulated dockerd deals in: plans, networks, endpoints, containers, tasks; and a runtime beside it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network
from typing import Any

from dni_driver.core.mesos.cni_wish import CniKey
from dni_driver.core.names import host_link
from dni_driver.core.overlays import Address
from dni_driver.core.overlays import Network as IPNetwork


class CallFailed(Exception):  # noqa: N818 - named for what dockerd meets
    """A driver answered an error, or not at all."""


IFNAME = "eth0"
"""What a runtime of CNI calls the first link of a container."""

Place = tuple[str, Address]
"""An address in its pool."""


@dataclass(frozen=True)
class Call:
    """One call of a driver."""

    method: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Lock:
    """Wait for the lock of a network, and hold it (libnetwork's networkLocker)."""

    network: str


@dataclass(frozen=True)
class Unlock:
    """Let go of the lock of a network."""

    network: str


Steps = Generator[Call | Lock | Unlock, Any, None]
Asking = Generator[Call | Lock | Unlock, Any, Any]
Transport = Callable[[Call], Any]
"""Makes a call; answers what the driver answered, or raises CallFailed."""


@dataclass(frozen=True)
class Subnet:
    """One `--subnet` with what belongs to it, as a user types it; empty texts are not typed."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary: tuple[str, ...] = ()
    family: int = 4


@dataclass(frozen=True)
class Plan:
    """A `docker network create`: `-d`, `--ipam-driver`, `--ipam-opt`, `-o`, `--internal`, subnets by family."""

    driver: str = "dni"
    ipam: str = "dni"
    subnets: tuple[Subnet, ...] = (Subnet(),)
    ipam_options: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    internal: bool = False


@dataclass
class Pool:
    """A pool as the IPAM driver answered it."""

    id: str
    subnet: str
    typed: Subnet
    gateway: str = ""
    auxiliary: list[str] = field(default_factory=list)

    def network(self) -> IPNetwork:
        """Answer its subnet."""
        return ip_network(self.subnet)

    def data(self) -> dict[str, Any]:
        """Marshal it for CreateNetwork."""
        named = {f"aux{number}": address for number, address in enumerate(self.auxiliary)}
        space = "dni-local" if self.gateway else "null"
        told = {"AddressSpace": space, "Pool": self.subnet, "Gateway": self.gateway, "AuxAddresses": named}
        return {key: value for key, value in told.items() if value}


@dataclass
class Network:
    """A network that dockerd has on disk; one that is being deleted is listed nowhere."""

    id: str
    plan: Plan
    pools: list[Pool]
    deleting: bool = False

    @property
    def ours(self) -> bool:
        """Tell whether dni is its network driver."""
        return self.plan.driver == "dni"

    @property
    def has_ipam(self) -> bool:
        """Tell whether addresses are asked of dni's IPAM driver, or else come with CreateEndpoint."""
        return self.plan.ipam == "dni"


@dataclass
class Endpoint:
    """An endpoint that dockerd has on disk. `addresses` are CIDR texts by pool id; live once it has joined."""

    id: str
    network: Network
    container: str
    addresses: dict[str, str]
    joined: bool = False

    def bare(self) -> Iterator[Address]:
        """Answer its addresses without their masks."""
        return (ip_interface(address).ip for address in self.addresses.values())


@dataclass
class Container:
    """A container: its networks by id, each with the user's `--ip` or an empty text, and its `-p`.

    `ports` are the host ports for its port 80, 0 for any.
    """

    name: str
    networks: dict[str, str]
    restarts: bool
    ports: tuple[int, ...] = ()
    running: bool = False
    busy: bool = False


@dataclass
class Placed:
    """A container of a runtime of CNI; `addresses` are CIDR texts by pool id, none before the answer to ADD."""

    name: str
    overlay: str
    sandbox: str
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> CniKey:
        """Answer what the runtime calls its place by."""
        return CniKey(overlay=self.overlay, container=self.name, ifname=IFNAME)

    @property
    def endpoint(self) -> str:
        """Answer the id of its endpoint."""
        return self.key.endpoint

    @property
    def link(self) -> str:
        """Answer the name of its link on the host."""
        return host_link(self.endpoint)

    def places(self) -> Iterator[Place]:
        """Answer its addresses in their pools."""
        yield from ((pool, ip_interface(text).ip) for pool, text in self.addresses.items())


class Task:
    """Something under way: its steps are taken one by one, with anything in between."""

    def __init__(self, name: str, steps: Steps, container: Container | None = None) -> None:
        """Stand before the first step."""
        self.name = name
        self.container = container
        self._steps = steps
        self.step: Call | Lock | Unlock | None = None
        self.resume(None)

    def resume(self, value: object) -> None:
        """Go on with an answer, or with an error where it is one."""
        try:
            self.step = self._steps.throw(value) if isinstance(value, CallFailed) else self._steps.send(value)
        except StopIteration:
            self.step = None
