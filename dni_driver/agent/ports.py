# SPDX-License-Identifier: Apache-2.0
"""What the agent needs of the world around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from dni_driver.core.docker_networks import ListedNetwork
from dni_driver.core.mtu import Underlay
from dni_driver.core.overlays import Address, Network
from dni_driver.core.records import Records
from dni_driver.core.views import DockerView, KernelView
from dni_driver.core.wanted import Link, Wanted


class Kernel(Protocol):
    """The kernel of this host; its methods raise KernelError."""

    def agent_address(self) -> Address:
        """Answer the address this host is best known by; 127.0.0.1 where it has no other."""

    def underlay(self, agent: Address) -> Underlay:
        """Answer the link that carries the agent IP."""

    def overlapping_routes(self, network: Network) -> list[str]:
        """Name the on-link routes and name servers that overlap a network."""

    def reconcile(self, read_wanted: Callable[[], Wanted]) -> list[str]:
        """Make the kernel as wanted; answer in words what was changed."""

    def observe(self, wanted: Wanted) -> KernelView:
        """Answer what the kernel has of ours."""

    def link_news(self) -> Iterator[None]:
        """Answer, each time that a bridge came or went or a link has another MTU, until `hush`."""

    def hush(self) -> None:
        """End the news of links; from any thread."""

    def detach(self, endpoints: Iterable[str]) -> None:
        """Delete the links of endpoints in the background."""

    def plug(self, link: Link, beside: Sequence[Link]) -> None:
        """Make a whole link, its container end ready in its sandbox; `beside` are the others of that."""

    def unplug(self, endpoints: Collection[str]) -> None:
        """Delete links, and return when they are gone; raise KernelError where one stays."""

    def plug_faults(self, link: Link) -> list[str]:
        """Answer in words how a link differs from what `plug` made."""

    def missing_sandboxes(self, sandboxes: Iterable[str]) -> set[str]:
        """Answer which paths lead to no network namespace."""

    def answers(self, address: Address) -> bool:
        """Tell whether anybody answers for an address on its bridge."""

    def ifname_in_sandbox(self, link: Link) -> str | None:
        """Answer what a link is called inside its sandbox, once libnetwork has moved it there."""


class DockerEvent(msgspec.Struct, frozen=True):
    """Something that happened in dockerd: `network connect`, `daemon reload`; `name` is whom it happened to."""

    kind: str
    action: str
    name: str = ""


class Docker(Protocol):
    """dockerd, asked over its API; its methods raise Unavailable."""

    def version(self) -> str:
        """Answer the version of the engine."""

    def view(self, records: Records) -> DockerView:
        """Answer the networks that use dni, or that the records know."""

    def events(self) -> Iterator[DockerEvent]:
        """Answer the events of our networks and the daemon, as they happen, until dockerd ends."""

    def listed(self) -> list[ListedNetwork]:
        """Answer all networks that Docker has."""

    def create_network(self, body: dict[str, Any]) -> None:
        """Create a network (POST /networks/create); raise Refused with what Docker says."""

    def remove_network(self, network: str) -> None:
        """Remove a network by its id; one that is gone is no error. Raises Refused with what Docker says."""

    def close(self) -> None:
        """End whatever waits for dockerd."""


class Time(msgspec.Struct, frozen=True, kw_only=True):
    """`clock` dates records, in seconds since 1970; `monotonic` measures, and nobody sets it."""

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
