# SPDX-License-Identifier: Apache-2.0
"""Publishing ports: an endpoint gets ports of this host, all that it asks for or none.

dockerd says the same several times (29), or never says that it is over (29 after live-restore, any engine while the
driver is down): so what it says is what there is to be, and ports go with their endpoint at the latest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

import structlog

from dni_driver.core.errors import DniError, InUse
from dni_driver.core.ports import Binding, HostPort, PortRecord, in_order
from dni_driver.core.ports import Protocol as PortProtocol
from dni_driver.core.records import EndpointRecord
from dni_driver.core.wanted import Link, Wanted, wanted
from dni_driver.plugin.port_taking import Taken, Taking
from dni_driver.store import Store, Transaction, addresses, endpoints, networks, ports
from dni_driver.store.records import read_here

log = structlog.get_logger(__name__)


class Ways(Protocol):
    """What publishing does to the kernel, and asks of it."""

    def publish(self, read_wanted: Callable[[], Wanted]) -> None:
        """Make published ports as the records want them now."""

    def hold(self, at: HostPort) -> bool:
        """Keep a port of this host from other programs; False where one has it already."""

    def release(self, ports: Iterable[HostPort]) -> None:
        """Let go of ports."""

    def hold_only(self, ports: Collection[HostPort]) -> None:
        """Let go of all ports but these."""

    def port_holder(self, at: HostPort) -> str | None:
        """Answer in words which program has a port; None where that cannot be told."""

    def dynamic_ports(self) -> range:
        """Answer the ports that are handed out where any will do."""

    def relayed_protocols(self) -> frozenset[PortProtocol]:
        """Answer what this host carries from its IPv6 addresses to containers."""

    def relay(self, read_wanted: Callable[[], Wanted]) -> None:
        """Carry those callers of held ports that take a program, as the records want it now."""

    def gone(self, links: Iterable[Link]) -> list[Link]:
        """Answer the links that are not there, and whose sandboxes are not either."""


_MOST_LISTED = 10
"""Ports that one line of the log names."""


class Publishing:
    """The published ports of this host's endpoints."""

    def __init__(self, store: Store, kernel: Ways) -> None:
        """Take both."""
        self._store = store
        self._kernel = kernel
        self._kept: object = None

    def publish(self, endpoint: str, bindings: Iterable[Binding]) -> None:
        """Have an endpoint's ports be these; where one of them cannot be had, they are what they were.

        Raises NotFound, InUse naming who has a port, Refused, Exhausted, KernelError.
        """
        wishes = in_order(bindings)
        if not wishes:
            self.revoke(endpoint)
            return
        before, after = self._record(endpoint, wishes)
        try:
            self._apply()
        except DniError:
            self._put_back(endpoint, before)
            raise
        log.info("ports published", endpoint=endpoint[:12], ports=_listed(after))

    def revoke(self, endpoint: str) -> None:
        """Have an endpoint publish nothing; one that does not, or is not known, is no error."""
        with self._store.read() as tx:
            if not ports.of_endpoint(tx, endpoint):
                return
        with self._store.write() as tx:
            gone = self.clear(tx, endpoint)
        self.withdraw(gone)

    def clear(self, tx: Transaction, endpoint: str) -> list[PortRecord]:
        """Forget the ports of an endpoint in a transaction, behind which `withdraw` is to be told what is gone."""
        gone = ports.clear(tx, endpoint)
        self._release(tx, gone)
        return gone

    def withdraw(self, gone: Collection[PortRecord]) -> None:
        """Have the kernel forget ports that are no longer recorded; what it refuses is left to reconcile."""
        if not gone:
            return
        try:
            self._apply()
        except DniError as error:
            log.warning("ports are still open, and will be closed soon", error=str(error))

    def keep(self) -> Sequence[str]:
        """Hold exactly the ports that are recorded; answer in words which of them another program has.

        The agent forgets endpoints too, and a port may have been taken while this process did not run.
        """
        # Whoever holds a port without having recorded it yet is writing: this waits for it.
        with self._store.write() as tx:
            recorded = list(dict.fromkeys(record.at for record in ports.every(tx)))
            self._kernel.hold_only(recorded)
            lost = list(self._lost(recorded))
        self._relay([at for at, _ in lost])
        return [
            f"port {at} leads to a container, but {self._program(at)} waits for callers there too"
            if error is None
            else str(error)
            for at, error in lost
        ]

    def follow_networks(self) -> None:
        """Have callers be carried, or not, as the networks are now; what the kernel refuses is left to `keep`."""
        try:
            self._kernel.relay(lambda: wanted(read_here(self._store)))
        except DniError as error:
            log.warning("who may call published ports will be told soon", error=str(error))

    def follow_sandbox(self, endpoints: Iterable[str]) -> None:
        """Have neighbours of these endpoints be answered, as their container came to one more network or left one."""
        try:
            with self._store.read() as tx:
                has_ports = any(ports.of_endpoint(tx, endpoint) for endpoint in endpoints)
            if has_ports:
                self._apply()
        except DniError as error:
            log.warning("neighbours of a container will reach its ports soon", error=str(error))

    def _lost(self, recorded: Iterable[HostPort]) -> Iterator[tuple[HostPort, DniError | None]]:
        """Hold ports; answer those that are another program's, or that cannot be held for another reason."""
        for at in recorded:
            try:
                if not self._kernel.hold(at):
                    yield at, None
            except DniError as error:
                yield at, error

    def _relay(self, lost: Sequence[HostPort]) -> None:
        """Carry callers of what is held, but not again as long as where it leads and who is confined is the same."""
        now = wanted(read_here(self._store))
        follows_from = now.relayed, now.confined(), lost
        if self._kept != follows_from:
            self._kernel.relay(lambda: wanted(read_here(self._store)))
            self._kept = follows_from

    def _apply(self) -> None:
        self._kernel.publish(lambda: wanted(read_here(self._store)))

    def _record(self, endpoint: str, wishes: Sequence[Binding]) -> tuple[list[PortRecord], list[PortRecord]]:
        """Record the ports of an endpoint; answer those that it had, and those that it has now."""
        while True:
            try:
                return self._replaced(endpoint, wishes)
            except Taken as taken:
                if taken.endpoint is None or not self._is_dead(taken.endpoint):
                    raise InUse(self._refusal(taken)) from None
                log.info("ports of a container that is gone are free again", endpoint=taken.endpoint[:12])
                self.revoke(taken.endpoint)

    def _replaced(self, name: str, wishes: Sequence[Binding]) -> tuple[list[PortRecord], list[PortRecord]]:
        with self._store.write() as tx:
            endpoint = endpoints.find(tx, name)
            before = ports.of_endpoint(tx, name)
            if networks.find(tx, endpoint.network).options.internal:
                # Docker's bridge publishes nothing of an internal network either.
                wishes = []
            with self._taking(tx, endpoint) as taking:
                taking.replace(wishes)
            after = ports.of_endpoint(tx, name)
            self._release(tx, set(before).difference(after))
            return before, after

    @contextmanager
    def _taking(self, tx: Transaction, endpoint: EndpointRecord) -> Iterator[Taking]:
        """Let ports be taken for an endpoint; what was taken is let go where something fails."""
        taking = Taking(tx, self._kernel, endpoint)
        with ExitStack() as undo:
            undo.callback(lambda: self._kernel.release(taking.held))
            yield taking
            undo.pop_all()

    def _release(self, tx: Transaction, gone: Iterable[PortRecord]) -> None:
        """Let go of ports that no endpoint has any more."""
        candidates = {record.at for record in gone}
        still = {one.at for at in candidates for one in ports.at_port(tx, at.protocol, at.port)}
        self._kernel.release(candidates - still)

    def _put_back(self, endpoint: str, before: Sequence[PortRecord]) -> None:
        """Have an endpoint's ports be what they were, in the store at once, in the kernel as far as that goes."""
        with self._store.write() as tx:
            gone = ports.clear(tx, endpoint)
            for record in before if endpoints.lookup(tx, endpoint) else ():
                ports.add(tx, record)
            self._release(tx, gone)
            lost = list(self._lost(record.at for record in before))
        if lost:
            log.warning("ports are no longer held", ports=[str(at) for at, _ in lost])
        self.withdraw(gone)

    def _is_dead(self, endpoint: str) -> bool:
        """Tell whether the container of an endpoint is gone, kernel and all: dockerd's word of that was lost."""
        links = [link for link in wanted(read_here(self._store)).links if link.endpoint == endpoint]
        return not links or bool(self._kernel.gone(links))

    def _refusal(self, taken: Taken) -> str:
        whose = self._program(taken.at) if taken.endpoint is None else self._container(taken.endpoint)
        if taken.wish.leeway == 1:
            return f"port {taken.at} is in use by {whose}: choose another host port, or stop that first"
        dynamic = self._kernel.dynamic_ports()
        first, last = (taken.wish.first, taken.wish.last) if taken.wish.first else (dynamic.start, dynamic.stop - 1)
        return (
            f"no port of {first}-{last}/{taken.wish.protocol} is free on this host (the last one tried, {taken.at}, "
            f"is in use by {whose}): choose other host ports, or stop something; `dni ports` lists the published ones"
        )

    def _program(self, at: HostPort) -> str:
        return self._kernel.port_holder(at) or f"another program of this host (`ss -lntup 'sport = :{at.port}'`)"

    def _container(self, endpoint: str) -> str:
        with self._store.read() as tx:
            names = [record.container for record in addresses.of_endpoint(tx, endpoint) if record.container]
        return f"container {names[0]}" if names else f"the container of endpoint {endpoint[:12]}, see `dni ports`"


def _listed(records: Sequence[PortRecord]) -> list[str]:
    more = [f"and {len(records) - _MOST_LISTED} more"] if len(records) > _MOST_LISTED else []
    return [f"{record.at} to {record.port}" for record in records[:_MOST_LISTED]] + more
