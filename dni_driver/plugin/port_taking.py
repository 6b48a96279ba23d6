# SPDX-License-Identifier: Apache-2.0
"""Taking ports of this host for one endpoint, inside a transaction: which are free, and who has the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from dni_driver.core.errors import Refused
from dni_driver.core.overlays import Address
from dni_driver.core.ports import (
    Binding,
    HostPort,
    PortRecord,
    are_shared,
    candidates,
    host_addresses,
    served,
)
from dni_driver.core.ports import Protocol as PortProtocol
from dni_driver.core.records import EndpointRecord
from dni_driver.store import Transaction, endpoints, ports


class Holding(Protocol):
    """What taking a port does to the kernel."""

    def hold(self, at: HostPort) -> bool:
        """Keep a port of this host from other programs; False where one has it already."""

    def release(self, ports: Iterable[HostPort]) -> None:
        """Let go of ports."""

    def dynamic_ports(self) -> range:
        """Answer the ports that are handed out where any will do."""

    def relayed_protocols(self) -> frozenset[PortProtocol]:
        """Answer what this host carries from its IPv6 addresses to containers that have none."""


class Taken(Exception):  # noqa: N818 - named for what was met
    """A wish cannot be served: its last port is another endpoint's or, where that is None, another program's."""

    def __init__(self, wish: Binding, at: HostPort, endpoint: str | None) -> None:
        """Take what was wished for, and what was met."""
        super().__init__(f"{at} is taken")
        self.wish = wish
        self.at = at
        self.endpoint = endpoint


def _is_alike(record: PortRecord, wish: Binding) -> bool:
    return record.at.protocol is wish.protocol and record.port == wish.port


class Taking:
    """One endpoint's ports being replaced. `held` are the ports that were taken for that, until they are recorded."""

    def __init__(self, tx: Transaction, kernel: Holding, endpoint: EndpointRecord) -> None:
        """Begin with what the endpoint and the others of its container have."""
        self._tx = tx
        self._kernel = kernel
        self._endpoint = endpoint
        self._own: list[Address] = [interface.ip for interface in endpoint.interfaces()]
        self._dynamic = kernel.dynamic_ports()
        self._relayed = kernel.relayed_protocols()
        self._beside = [] if endpoint.sandbox is None else list(self._of_the_others(endpoint.sandbox))
        self._had: set[HostPort] = set()
        self.held: list[HostPort] = []

    def _of_the_others(self, sandbox: str) -> Iterator[PortRecord]:
        for other in endpoints.in_sandbox(self._tx, sandbox):
            if other.id != self._endpoint.id:
                yield from ports.of_endpoint(self._tx, other.id)

    def replace(self, wishes: Sequence[Binding]) -> None:
        """Record what serves these wishes, and nothing else; what does already stays. Raises Taken, Refused."""
        before = ports.of_endpoint(self._tx, self._endpoint.id)
        self._had = {record.at for record in (*before, *self._beside)}
        about = [(wish, host_addresses(wish, self._own, self._relayed)) for wish in wishes]
        kept = served(about, before, self._dynamic)
        staying = {record for records in kept.values() for record in records}
        for record in before:
            if record not in staying:
                ports.remove(self._tx, record)
        for number, (wish, ips) in enumerate(about):
            if number not in kept:
                self._serve(wish, ips)

    def _serve(self, wish: Binding, ips: Sequence[Address]) -> None:
        """Record the first port that will do, at each of these addresses of the host."""
        met: Taken | None = None
        for port in self._candidates(wish):
            wanted = [self._record(HostPort(wish.protocol, ip, port), wish.port) for ip in ips]
            met = self._take(wish, wanted, ports.at_port(self._tx, wish.protocol, port))
            if met is None:
                break
        if met is not None:
            raise met

    def _candidates(self, wish: Binding) -> Iterator[int]:
        """Answer the ports that will do, first those that lead to this container by another network of its."""
        right = range(wish.first, wish.last + 1) if wish.first else self._dynamic
        alike = {record.at.port for record in self._beside if _is_alike(record, wish)}
        yield from sorted(alike.intersection(right))
        yield from candidates(wish, self._dynamic, ports.last_given(self._tx, wish.protocol))

    def _record(self, at: HostPort, port: int) -> PortRecord:
        return PortRecord(at=at, endpoint=self._endpoint.id, port=port)

    def _take(self, wish: Binding, wanted: Iterable[PortRecord], others: Sequence[PortRecord]) -> Taken | None:
        """Record ports, all or none, beside what others have of them; answer what is in the way."""
        taken: list[PortRecord] = []
        for record in wanted:
            obstacle = self._obstacle(wish, record, others)
            if obstacle is not None:
                self._let_go(taken)
                return obstacle
            ports.add(self._tx, record)
            taken.append(record)
        if not wish.first and taken:
            ports.note_given(self._tx, wish.protocol, taken[0].at.port)
        return None

    def _let_go(self, taken: Iterable[PortRecord]) -> None:
        for record in taken:
            ports.remove(self._tx, record)
            if record.at in self.held:
                self.held.remove(record.at)
                self._kernel.release([record.at])

    def _obstacle(self, wish: Binding, record: PortRecord, others: Sequence[PortRecord]) -> Taken | None:
        """Hold a port; answer why that cannot be."""
        for other in others:
            if other.at.overlaps(record.at) and not (other in self._beside and are_shared(other, record)):
                self._check_not_own(wish, other)
                return Taken(wish, record.at, other.endpoint)
        if not self._kernel.hold(record.at):
            return Taken(wish, record.at, None)
        if record.at not in self._had:
            self.held.append(record.at)
        return None

    def _check_not_own(self, wish: Binding, other: PortRecord) -> None:
        if other.endpoint == self._endpoint.id and wish.first == wish.last != 0:
            raise Refused(
                f"`{wish}` cannot be published: the same container has {other.at} for its port {other.port} already; "
                f"choose another host port"
            )
