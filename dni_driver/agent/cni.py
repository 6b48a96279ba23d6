# SPDX-License-Identifier: Apache-2.0
"""The Mesos half on this host: CNI's configuration files, and what dni-cni and people ask about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from dni_driver.agent.cni_collector import CniCollector
from dni_driver.agent.occupancy import check_host_local
from dni_driver.agent.ports import Kernel, Time
from dni_driver.core.cni_records import CniNetworkRecord
from dni_driver.core.deadline import holding
from dni_driver.core.errors import KernelError, Refused
from dni_driver.core.invariants.finding import Finding
from dni_driver.core.mesos import cni_conf
from dni_driver.core.mesos.cni_conf import CniForm, Ipam, Shape
from dni_driver.core.mesos.cni_wish import CniKey, CniReport, CniWish
from dni_driver.core.mtu import Underlay, cni_mtu, hosted
from dni_driver.core.overlays import Overlay
from dni_driver.core.records import NetworkRecord, Records
from dni_driver.core.reports import unknown_overlay
from dni_driver.mesos import conf_files
from dni_driver.mesos.endpoints import Endpoints
from dni_driver.mesos.host_local import DATA_DIRECTORIES
from dni_driver.store import Store, Transaction, cni, fence, overlays
from dni_driver.store.records import read_all

_TURN_SECONDS = 15.0


class CniOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say about CNI.

    `directory` is where configurations are written, None for nowhere; `ipam` who hands out the Mesos half; `socket`
    that of the operator API where dni-cni does not find it by itself; `grace` is in seconds.
    """

    directory: Path | None = None
    ipam: Ipam = "host-local"
    socket: str | None = None
    grace: float = 900.0
    held: tuple[Path, ...] = DATA_DIRECTORIES


class Cni:
    """Safe to call from several threads."""

    def __init__(
        self, store: Store, kernel: Kernel, options: CniOptions, time: Time, mend: Callable[[], None]
    ) -> None:
        """`mend` has the kernel follow the records soon."""
        self._store = store
        self._kernel = kernel
        self._options = options
        self._time = time
        self._mend = mend
        self._endpoints = Endpoints(store, kernel, options.ipam, time.clock, time.sleep, options.held)
        self._turn = threading.Lock()
        self._collector = CniCollector(store, kernel, options.grace, time)

    def attach(self, wish: CniWish) -> CniReport:
        """Give a container its place; see Endpoints."""
        return self._endpoints.attach(wish)

    def detach(self, key: CniKey) -> None:
        """Take it away."""
        self._endpoints.detach(key)

    def verify(self, key: CniKey) -> CniReport:
        """Answer it where it is as it was made."""
        return self._endpoints.verify(key)

    def configuration(self, overlay: str, ipam: Ipam | None, shape: Shape) -> dict[str, Any]:
        """Answer the configuration of an overlay, by who hands out its addresses: as set, unless it is said.

        Raises NotFound for an unknown overlay, Refused where there can be none.
        """
        records = read_all(self._store)
        known = next((one for one in records.overlays if one.name == overlay), None)
        if known is None:
            raise unknown_overlay(overlay)
        form = CniForm(ipam=ipam or self._options.ipam, shape=shape, socket=self._options.socket)
        return cni_conf.configuration(self._with_network(records, known), overlay, form)

    def check_vacant(self, overlay: str) -> None:
        """Raise InUse where host-local has given addresses of an overlay to containers."""
        check_host_local(overlay, self._options.held)

    def withdraw(self, overlay: str) -> None:
        """Have no runtime find an overlay that is leaving; raise InUse where host-local has given addresses of it."""
        self._settle()
        self.check_vacant(overlay)

    def round(self) -> Sequence[str]:
        """Have records, files and bridges as they should be, and collect; answer in words what is wrong."""
        problems = self._settle()
        self._collector.collect()
        return [*problems, *self._unsettled(read_all(self._store))]

    def repair(self) -> Iterator[str]:
        """Free what containers left behind, as far as there is time; tell of each in words."""
        return self._collector.repair()

    def findings(self) -> list[Finding]:
        """Answer what containers left behind."""
        return self._collector.findings()

    def _settle(self) -> list[str]:
        """Have records and files as they should be.

        In turn: who read before an overlay began to leave has written what it knew when the next one reads.
        """
        with holding(self._turn, _TURN_SECONDS, "CNI's configurations are being written: try again in a moment"):
            problems, records = self._settle_networks(), read_all(self._store)
            closed = self._closed(records)
            problems += [
                f"overlay {overlay!r} has no CNI configuration, by which host-local would hand out addresses: {why}"
                for overlay, why in closed.items()
            ]
            return problems + conf_files.settle(self._store, self._files(records, closed))

    def _closed(self, records: Records) -> dict[str, str]:
        """Answer of which Mesos halves host-local may hand out nothing, and why: it asks nobody itself."""
        if self._options.directory is None:
            return {}
        halves = [one.overlay for one in records.cni_networks if self._ipam(one.overlay, records) == "host-local"]
        with self._store.read() as tx:
            found = {overlay: fence.closing(tx, overlay, self._time.clock()) for overlay in halves}
        return {overlay: str(why) for overlay, why in found.items() if why is not None}

    def _settle_networks(self) -> list[str]:
        """Record the Mesos halves that are to be there, with their MTUs; have the kernel follow what changed."""
        records = read_all(self._store)
        right = {one.overlay: one for one in records.cni_networks if _users(one.overlay, records)}
        try:
            right |= {overlay.name: self._network(records, overlay) for overlay in self._wanted(records)}
        except KernelError as error:
            return [str(error)]
        there = {one.overlay: one for one in records.cni_networks}
        if right != there:
            with self._store.write() as tx:
                _replace(tx, there, right)
            self._mend()
        return []

    def _wanted(self, records: Records) -> list[Overlay]:
        """Answer the overlays with a Mesos half here: all that runtimes are told of, and those in use."""
        return [
            overlay
            for overlay in records.overlays
            if records.mesos_halves(overlay.name)
            and overlay.name not in records.leaving
            and (self._options.directory is not None or _users(overlay.name, records))
        ]

    def _with_network(self, records: Records, overlay: Overlay) -> Records:
        """Answer records in which an overlay's Mesos half is there, for a configuration that is only shown."""
        if any(one.overlay == overlay.name for one in records.cni_networks):
            return records
        made = self._network(records, overlay)
        return msgspec.structs.replace(records, cni_networks=[*records.cni_networks, made])

    def _network(self, records: Records, overlay: Overlay) -> CniNetworkRecord:
        known = next((one for one in records.cni_networks if one.overlay == overlay.name), None)
        docker: NetworkRecord | None = next((one for one in records.networks if one.overlay == overlay.name), None)
        mtu = cni_mtu(overlay, docker, self._underlay(records))
        return CniNetworkRecord(overlay=overlay.name, mtu=mtu, since=known.since if known else self._time.clock())

    def _underlay(self, records: Records) -> Underlay:
        if records.agent is None:
            raise KernelError("the dni agent has not joined its registry yet: see `dni status`")
        return hosted(self._kernel.underlay(records.agent), records.hosting)

    def _files(self, records: Records, closed: Container[str]) -> dict[Path, bytes]:
        """Answer the files that are to be there; an overlay of IPv6 alone is none of host-local's, as in DC/OS."""
        directory = self._options.directory
        if directory is None:
            return {}
        found: dict[Path, bytes] = {}
        for network in (one for one in records.cni_networks if one.overlay not in closed):
            form = CniForm(ipam=self._ipam(network.overlay, records), socket=self._options.socket)
            with suppress(Refused):
                document = cni_conf.configuration(records, network.overlay, form)
                found[directory / f"{network.overlay}.conf"] = cni_conf.write(document)
        return found

    def _ipam(self, overlay: str, records: Records) -> Ipam:
        """Answer who hands out a Mesos half: as set, but dni as long as containers have addresses from it."""
        return "dni" if _users(overlay, records) else self._options.ipam

    def _unsettled(self, records: Records) -> list[str]:
        """Say which Mesos halves host-local cannot hand out yet."""
        if self._options.ipam == "dni":
            return []
        way_back = "" if records.hosting.carries else ", or set cni.ipam to dni again"
        used = {network.overlay: _users(network.overlay, records) for network in records.cni_networks}
        return [
            f"overlay {overlay!r} has containers with addresses from dni-cni ({count}), so host-local cannot hand "
            f"out its Mesos half yet: stop them{way_back}"
            for overlay, count in used.items()
            if count
        ]


def _users(overlay: str, records: Records) -> int:
    """Count the containers that have addresses of an overlay from dni-cni."""
    return sum(endpoint.overlay == overlay for endpoint in records.cni_endpoints)


def _replace(tx: Transaction, there: dict[str, CniNetworkRecord], right: dict[str, CniNetworkRecord]) -> None:
    for overlay in there.keys() - right.keys():
        cni.remove_network(tx, overlay)
    known = {overlay.name for overlay in overlays.every(tx)}
    for network in right.values():
        if there.get(network.overlay) != network and network.overlay in known:
            cni.put_network(tx, network)
