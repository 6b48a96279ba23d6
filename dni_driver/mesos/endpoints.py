# SPDX-License-Identifier: Apache-2.0
"""Containers of CNI in the Mesos half: each is recorded with its address, then plugged, and unplugged in the end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from dni_driver.core.cni_records import CniEndpointRecord, CniNetworkRecord
from dni_driver.core.errors import BridgeMissing, KernelError, NotFound, NotMended, Refused, Unavailable
from dni_driver.core.mac import mac_for
from dni_driver.core.mesos.cni_conf import Ipam
from dni_driver.core.mesos.cni_wish import CniKey, CniReport, CniWish, report
from dni_driver.core.mtu import Underlay, cni_mtu, hosted
from dni_driver.core.names import mesos_bridge
from dni_driver.core.overlays import FAMILIES, Address, Family, Overlay
from dni_driver.core.records import Interface, ReservationRecord, mesos_halves, with_mask
from dni_driver.core.wanted import Link, Wanted, wanted
from dni_driver.mesos.host_local import DATA_DIRECTORIES, occupied
from dni_driver.store import Store, Transaction, addresses, cni, hosting, leaving, networks, overlays, pools
from dni_driver.store.claiming import Asked, claim
from dni_driver.store.patience import when_there_is_room
from dni_driver.store.records import read, read_all

log = structlog.get_logger(__name__)


class Plumbing(Protocol):
    """What is done to the kernel for a container of CNI."""

    def reconcile(self, read_wanted: Callable[[], Wanted]) -> list[str]:
        """Make the kernel agree with the records."""

    def plug(self, link: Link, beside: Sequence[Link]) -> None:
        """Make a whole link, its container end ready in its sandbox; `beside` are the others of that."""

    def unplug(self, endpoints: Collection[str]) -> None:
        """Delete links, and return when they are gone; raise KernelError where one stays."""

    def plug_faults(self, link: Link) -> list[str]:
        """Answer in words how a link differs from what `plug` made."""

    def underlay(self, agent: Address) -> Underlay:
        """Answer the link that carries the agent IP."""


class Endpoints:
    """What dni-cni asks for. Safe to call from several threads."""

    def __init__(
        self,
        store: Store,
        kernel: Plumbing,
        ipam: Ipam,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        directories: tuple[Path, ...] = DATA_DIRECTORIES,
    ) -> None:
        """`ipam` says who hands out the Mesos half; `directories` are where host-local keeps what it holds."""
        self._store = store
        self._kernel = kernel
        self._ipam = ipam
        self._clock = clock
        self._sleep = sleep
        self._directories = directories

    def attach(self, wish: CniWish) -> CniReport:
        """Give a container its place; the same once more is answered likewise, and mended.

        Raises Refused where host-local hands out the Mesos half, NotFound for an unknown overlay, InUse for an
        address that somebody has, Exhausted, KernelError.
        """
        if self._ipam != "dni":
            raise self._anothers()
        self._ready(wish.overlay)
        self._forget_displaced(wish)
        taken = [
            ReservationRecord(overlay=wish.overlay, first=one, last=one)
            for one in occupied(wish.overlay, self._directories)
        ]
        is_new = when_there_is_room(self._store, lambda: self._record(wish, taken), self._sleep)
        with ExitStack() as undo:
            if is_new:
                undo.callback(self._forget, wish.endpoint)
            plugged = report(self._plug(wish))
            undo.pop_all()
        return plugged

    def detach(self, key: CniKey) -> None:
        """Take a container's place away; one that is not there is gone already."""
        with self._store.read() as tx:
            known = cni.find_endpoint(tx, key.endpoint)
        if known is not None:
            self._forget(key.endpoint)
            log.info("container left the Mesos half", overlay=key.overlay, container=key.container)

    def verify(self, key: CniKey) -> CniReport:
        """Answer a container's place where it is as it was made; raise NotFound, or Refused with the differences."""
        link, _ = self._links(key)
        faults = self._kernel.plug_faults(link)
        if faults:
            raise Refused(f"container {key.container} is not as it was made: {'; '.join(faults)}")
        return report(link)

    def _anothers(self) -> Refused:
        """Build the error of a Mesos half that is not dni's to hand out."""
        with self._store.read() as tx:
            if hosting.get(tx).carries:
                return Refused(
                    "Mesos hands out the Mesos halves of this host itself, and two would give one address twice: use "
                    "the configurations that Mesos writes"
                )
        return Refused(
            "the Mesos halves of this host are handed out by host-local, and two would give one address twice: "
            'set ipam = "dni" in [cni] of /etc/dni/dni.toml and restart dni, or use what `dni cni show` writes'
        )

    def _forget_displaced(self, wish: CniWish) -> None:
        """Forget who was to have this link in a namespace of this path, and has not: the path is another's now."""
        records = read_all(self._store)
        same_place = {
            one.id
            for one in records.cni_endpoints
            if (one.sandbox, one.ifname) == (wish.sandbox, wish.ifname) and one.id != wish.endpoint
        }
        for link in wanted(records).links if same_place else ():
            if link.endpoint in same_place and self._kernel.plug_faults(link):
                log.info("another container has its namespace's path now", endpoint=link.endpoint[:12])
                self._forget(link.endpoint)

    def _record(self, wish: CniWish, taken: Sequence[ReservationRecord]) -> bool:
        """Record an endpoint with its addresses; tell whether it is new."""
        with self._store.write() as tx:
            known = cni.find_endpoint(tx, wish.endpoint)
            if known is not None:
                if known.sandbox != wish.sandbox:
                    moved = msgspec.structs.replace(known, sandbox=wish.sandbox, since=self._clock())
                    cni.put_endpoint(tx, moved)
                return False
            overlay = overlays.find(tx, wish.overlay)
            self._ensure_network(tx, overlay)
            self._add(tx, overlay, wish, taken)
        return True

    def _ensure_network(self, tx: Transaction, overlay: Overlay) -> None:
        if cni.find_network(tx, overlay.name) is not None:
            return
        agent = overlays.agent_ip(tx)
        if agent is None:
            raise Unavailable("the dni agent has not joined its registry yet: see `dni status`")
        underlay = hosted(self._kernel.underlay(agent), hosting.get(tx))
        mtu = cni_mtu(overlay, networks.of_overlay(tx, overlay.name), underlay)
        cni.put_network(tx, CniNetworkRecord(overlay=overlay.name, mtu=mtu, since=self._clock()))

    def _add(self, tx: Transaction, overlay: Overlay, wish: CniWish, taken: Sequence[ReservationRecord]) -> None:
        now = self._clock()
        given = {family: self._claim(tx, overlay, family, wish, taken) for family in _families(overlay, wish)}
        endpoint = CniEndpointRecord(
            id=wish.endpoint,
            overlay=overlay.name,
            container=wish.container,
            ifname=wish.ifname,
            sandbox=wish.sandbox,
            mac=mac_for(next(iter(given.values())).ip),
            address=next((one for one in given.values() if isinstance(one, IPv4Interface)), None),
            address6=next((one for one in given.values() if isinstance(one, IPv6Interface)), None),
            since=now,
            options=wish.options,
        )
        cni.put_endpoint(tx, endpoint)
        for family, interface in given.items():
            pool = pools.use_mesos(tx, overlay.name, family, now)
            addresses.bind_cni(tx, pool.id, interface.ip, endpoint)

    def _claim(
        self, tx: Transaction, overlay: Overlay, family: Family, wish: CniWish, taken: Sequence[ReservationRecord]
    ) -> Interface:
        now = self._clock()
        halves = mesos_halves(overlays.agent_subnets(tx, overlay.name), overlay.name, family)
        if not halves:
            raise Unavailable(f"this host has no agent subnet of overlay {overlay.name!r} yet: `dni status` says why")
        pool = pools.use_mesos(tx, overlay.name, family, now)
        asked = wish.asked(family)
        _check_not_taken(asked, taken)
        kept = tuple(one for one in taken if one.family == family)
        address = claim(tx, pool, halves, Asked(address=asked, kept=kept), now)
        return with_mask(address, next(half for half in halves if address in half))

    def _ready(self, overlay: str) -> None:
        """Have the Mesos half recorded, and its bridge there; raise KernelError only for what concerns that."""
        with self._store.write() as tx:
            found = overlays.find(tx, overlay)
            leaving.check(tx, overlay)
            self._ensure_network(tx, found)
        try:
            self._kernel.reconcile(lambda: wanted(read_all(self._store)))
        except NotMended as error:
            log.warning("the host could not be mended altogether", error=str(error))
            if failures := error.on(mesos_bridge(overlay)):
                raise KernelError("; ".join(failures)) from error

    def _plug(self, key: CniKey) -> Link:
        """Plug a recorded endpoint; raise NotFound, having unplugged it, where it was detached meanwhile."""
        link, beside = self._links(key)
        try:
            self._kernel.plug(link, beside)
        except BridgeMissing:
            self._ready(key.overlay)
            self._kernel.plug(link, beside)
        with self._store.read() as tx:
            known = cni.find_endpoint(tx, key.endpoint)
        if known is None:
            self._kernel.unplug([key.endpoint])
            raise _unknown(key)
        return link

    def _links(self, key: CniKey) -> tuple[Link, list[Link]]:
        """Answer the link of an endpoint, and the others of its sandbox; raise NotFound."""
        with self._store.read() as tx:
            links = wanted(read(tx)).links
        own = next((link for link in links if link.endpoint == key.endpoint), None)
        if own is None:
            raise _unknown(key)
        return own, [link for link in links if link.sandbox == own.sandbox and link is not own]

    def _forget(self, endpoint: str) -> None:
        """Unplug an endpoint, then free its addresses: who gets one next gets the MAC with it."""
        self._kernel.unplug([endpoint])
        with self._store.write() as tx:
            cni.forget_endpoint(tx, endpoint, self._clock())
        # An ADD beside this one may have plugged it again in between.
        self._kernel.unplug([endpoint])


def _unknown(key: CniKey) -> NotFound:
    return NotFound(f"container {key.container} has no {key.ifname} on overlay {key.overlay!r}")


def _families(overlay: Overlay, wish: CniWish) -> list[Family]:
    """Answer what an overlay speaks; raise Refused where something else is asked for."""
    spoken = [family for family in FAMILIES if overlay.space(family) is not None]
    for family in FAMILIES:
        if wish.asked(family) is not None and family not in spoken:
            raise Refused(f"overlay {overlay.name!r} has no IPv{family}: {wish.asked(family)} cannot be had on it")
    return spoken


def _check_not_taken(asked: Address | None, taken: Iterable[ReservationRecord]) -> None:
    if asked is not None and any(asked in one for one in taken):
        raise Refused(f"address {asked} is held by a container of host-local: ask for another, or stop that first")
