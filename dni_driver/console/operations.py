# SPDX-License-Identifier: Apache-2.0
"""What the operator API asks of the agent. Errors are those of core: they say what people are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dni_driver.core.addresses.fullness import Half, OverlayUsage, Room
from dni_driver.core.addresses.reservations import Wish
from dni_driver.core.cluster import AgentReport
from dni_driver.core.figures import Figures
from dni_driver.core.invariants.finding import Finding
from dni_driver.core.mesos import dcos
from dni_driver.core.overlays import Address, Backend, Overlay
from dni_driver.core.reports import AddressReport, OverlayReport, PortReport, Repair, ReservationReport, Status


class Operations(Protocol):
    """Called from several threads at a time."""

    def status(self) -> Status:
        """Answer how this host is."""

    def overlays(self) -> list[OverlayReport]:
        """Answer all overlays, by name."""

    def usage(self, name: str) -> OverlayUsage:
        """Answer how full an overlay is, agent by agent; raise NotFound."""

    def room(self, overlay: str, agent: Address | None, half: Half, count: int) -> Room:
        """Answer whether `count` more containers find addresses on an agent, None: this one; raise NotFound."""

    def figures(self) -> Figures:
        """Answer what is counted, for monitoring."""

    def dcos_agent(self) -> dcos.Agent:
        """Answer what DC/OS asks of an agent; raise Unavailable before this host knows its agent IP."""

    def dcos_cluster(self) -> dcos.Cluster:
        """Answer what DC/OS asks of the leading master; raise Unavailable where the registry cannot be had."""

    def purge(self, agents: Sequence[Address]) -> dcos.Cluster:
        """Forget agents that are gone, unknown ones are no error, and answer what is left; raise InUse."""

    def define_overlay(self, overlay: Overlay) -> OverlayReport:
        """Define an overlay in the whole cluster, and take part in it with a Docker network of it.

        The same once more is no error, and makes a network that was removed.
        """

    def define_without_network(self, overlay: Overlay) -> OverlayReport:
        """Define an overlay as `define_overlay` does; its Docker network on this host is left to the user."""

    def try_overlay(self, overlay: Overlay) -> OverlayReport:
        """Define an overlay for a Docker network that is being created: without that network it goes again."""

    def remove_overlay(self, name: str) -> None:
        """Remove an overlay; raise NotFound, InUse naming what uses it, Unavailable naming who has not answered."""

    def keep_overlay(self, name: str) -> None:
        """Call the removal of an overlay off; raise NotFound."""

    def set_backend(self, name: str, backend: Backend) -> OverlayReport:
        """Have an overlay's packets travel in another way from now on, in the whole cluster; raise NotFound."""

    def agents(self) -> list[AgentReport]:
        """Answer all agents of the cluster; raise Unavailable where the registry cannot be had."""

    def forget_agent(self, agent_ip: Address) -> None:
        """Forget an agent, and give up all it held; raise NotFound, or InUse where it is alive."""

    def addresses(self, overlay: str | None, *, with_free: bool) -> list[AddressReport]:
        """Answer who has which address, of one overlay (or raise NotFound) or of all."""

    def ports(self) -> list[PortReport]:
        """Answer which ports of this host lead to which containers."""

    def reserve(self, wish: Wish) -> ReservationReport:
        """Keep addresses back; the same wish once more is no error. Raises NotFound, Refused, InUse, Exhausted."""

    def release(self, wish: Wish) -> list[ReservationReport]:
        """Give up what was kept back, and answer it; raise NotFound where nothing is."""

    def limit(self, address: Address, limits: dict[str, int]) -> AddressReport:
        """Change the limits of the container that has an address, or raise NotFound.

        `limits` are bits a second, 0 for none, under `egress`, `ingress` or both.
        """

    def check(self) -> list[Finding]:
        """Answer what is wrong with store, kernel and Docker."""

    def repair(self) -> Repair:
        """Mend what can be mended, and answer what was done and what is left."""
