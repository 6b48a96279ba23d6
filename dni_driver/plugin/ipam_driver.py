# SPDX-License-Identifier: Apache-2.0
"""libnetwork's IpamDriver: pools and addresses (facts about the protocol: libnetwork docs/ipam.md).

dockerd ignores what Release calls answer, and never repeats a lost one; what that leaves behind is the
collector's. So is the release of an address, which is noted only, where a failure of power takes it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from dni_driver.core.addresses.allocation import check_explicit
from dni_driver.core.addresses.selection import (
    OverlayDefined,
    PlainChosen,
    PoolRequest,
    check_range,
)
from dni_driver.core.errors import DniError, MalformedRequest, Refused
from dni_driver.core.overlays import Address, Family, Network, Overlay, family_of, gateway_of
from dni_driver.core.records import AddressState, Held, PoolRecord, docker_halves
from dni_driver.plugin import wire
from dni_driver.plugin.pool_finder import Cluster, PoolFinder, Routes
from dni_driver.store import Store, Transaction, addresses, leaving, networks, overlays, pools
from dni_driver.store.claiming import Asked, claim, halves_of
from dni_driver.store.patience import when_there_is_room


class IpamDriver:
    """Hands out addresses: of overlays to `-d dni` networks, of plain pools to networks of other drivers."""

    def __init__(
        self,
        store: Store,
        routes: Routes,
        cluster: Cluster,
        default_overlay: str,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the store, the kernel's routes, and the cluster that a new overlay is defined in."""
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._default_overlay = default_overlay
        self._finder = PoolFinder(store, routes, cluster, default_overlay, clock, sleep)

    def get_capabilities(self) -> wire.IpamCapabilities:
        """Answer that neither MACs nor replays are wanted: the store remembers (docs/decisions/0004)."""
        return wire.IpamCapabilities(requires_mac_address=False, requires_request_replay=False)

    def get_default_address_spaces(self) -> wire.AddressSpaces:
        """Answer two names; dockerd skips its overlap check where they are one."""
        return wire.AddressSpaces(
            local_default_address_space=wire.LOCAL_SPACE, global_default_address_space=wire.GLOBAL_SPACE
        )

    def request_pool(self, request: wire.RequestPoolRequest) -> wire.RequestPoolResponse:
        """Answer the Docker half of the overlay meant, or a plain pool."""
        wanted = _read_pool_request(request)
        chosen = self._finder.find(wanted)
        if isinstance(chosen, PlainChosen):
            pool, subnet = self._use_plain(chosen, wanted), chosen.subnet
        elif isinstance(chosen, OverlayDefined):
            pool, subnet = self._try_out(chosen.overlay, wanted)
        else:
            pool, subnet = self._use_overlay(chosen.overlay, wanted)
        return wire.RequestPoolResponse(pool_id=pool.id, pool=str(subnet), data={})

    def release_pool(self, request: wire.ReleasePoolRequest) -> wire.Response:
        """Count one use less; the last one takes along what was never bound to a network."""
        now = self._clock()
        failed: str | None = None
        with self._store.write() as tx:
            if pools.drop_use(tx, request.pool_id) == 0:
                failed = _clear_unused(tx, request.pool_id, now)
        if failed is not None:
            self._finder.take_back(failed)
        return wire.Response()

    def request_address(self, request: wire.RequestAddressRequest) -> wire.RequestAddressResponse:
        """Record an address, then answer it with the mask of its half."""
        asked = wire.read_address(request.address, "address") if request.address else None
        given = when_there_is_room(self._store, lambda: self._give(request, asked), self._sleep)
        return wire.RequestAddressResponse(address=given, data={})

    def release_address(self, request: wire.ReleaseAddressRequest) -> wire.Response:
        """Take an address back; unknown ones are no error."""
        address = wire.read_address(request.address, "address")
        now = self._clock()
        with self._store.note() as tx:
            if not _stays_reserved(tx, request.pool_id, address):
                addresses.release(tx, request.pool_id, address, now)
        return wire.Response()

    def _give(self, request: wire.RequestAddressRequest, asked: Address | None) -> str:
        """Record an address; answer it with the mask of its half, as it goes over the wire."""
        options, now = request.options or {}, self._clock()
        with self._store.write() as tx:
            pool = pools.find(tx, request.pool_id)
            halves = halves_of(tx, pool)
            if options.get(wire.ADDRESS_TYPE) == wire.GATEWAY_TYPE:
                address = _reserve_gateway(tx, pool, halves, asked, now)
            else:
                if asked is None:
                    self._check_network(tx, pool)
                wish = Asked(address=asked, container=options.get(wire.ENDPOINT_NAME))
                address = claim(tx, pool, halves, wish, now)
        mask = next(half.prefixlen for half in halves if address in half)
        return f"{address}/{mask}"

    def _check_network(self, tx: Transaction, pool: PoolRecord) -> None:
        """Refuse to give an overlay's addresses to a network of another driver."""
        if pool.overlay is None or networks.is_of(tx, pool.overlay):
            return
        named = "" if pool.overlay == self._default_overlay else f"--ipam-opt overlay={pool.overlay} "
        raise Refused(
            f"overlay {pool.overlay!r} has no dni network on this host, and its addresses are for that: create it "
            f"with `docker network create -d dni --ipam-driver dni {named}{pool.overlay}`; for another driver use "
            f"--ipam-driver dni with a --subnet that no overlay has"
        )

    def _try_out(self, overlay: Overlay, wanted: PoolRequest) -> tuple[PoolRecord, Network]:
        """Use an overlay that was defined for this very network, and goes again where the network fails."""
        try:
            return self._use_overlay(overlay, wanted)
        except DniError:
            self._finder.take_back(overlay.name)
            raise

    def _use_plain(self, chosen: PlainChosen, wanted: PoolRequest) -> PoolRecord:
        with self._store.write() as tx:
            return pools.use_plain(tx, chosen.subnet, wanted.ip_range, self._clock())

    def _use_overlay(self, overlay: Overlay, wanted: PoolRequest) -> tuple[PoolRecord, Network]:
        with self._store.read() as tx:
            half = _vacant_half(tx, overlay, wanted)
        self._finder.check_routes(half)
        with self._store.write() as tx:
            # A network may have been made of the overlay meanwhile, or the overlay been removed.
            half = _vacant_half(tx, overlay, wanted)
            pool = pools.use_overlay(tx, overlay.name, wanted.family, wanted.ip_range, self._clock())
        return pool, half


def _read_pool_request(request: wire.RequestPoolRequest) -> PoolRequest:
    family: Family = 6 if request.v6 else 4
    pool, ip_range = (
        wire.read_network(text, what) if text else None
        for text, what in ((request.pool, "subnet"), (request.sub_pool, "ip-range"))
    )
    for network in (pool, ip_range):
        if network is not None and family_of(network) != family:
            raise MalformedRequest(f"{network} is not an IPv{family} subnet, and V6 is {request.v6}")
    return PoolRequest(pool=pool, ip_range=ip_range, options=request.options or {}, family=family)


def _vacant_half(tx: Transaction, overlay: Overlay, wanted: PoolRequest) -> Network:
    """Answer the half to tell Docker of; raise InUse where a network has the overlay, NotFound where it is gone."""
    other = networks.of_overlay(tx, overlay.name)
    if other is not None:
        raise networks.taken(other)
    overlays.find(tx, overlay.name)
    return _primary_half(overlay, wanted, overlays.held(tx, overlay.name))


def _primary_half(overlay: Overlay, wanted: PoolRequest, held: Sequence[Held]) -> Network:
    """Answer the half named or ranged over, else the first leased."""
    halves = docker_halves(held, overlay.name, wanted.family)
    check_range(wanted.ip_range, overlay.name, halves)
    for half in halves:
        if half == wanted.pool or (wanted.ip_range is not None and wanted.ip_range.network_address in half):
            return half
    return halves[0]


def _reserve_gateway(
    tx: Transaction, pool: PoolRecord, halves: Sequence[Network], asked: Address | None, now: float
) -> Address:
    """Answer the gateway; a half's own is kept from containers anyway and needs no record."""
    if pool.overlay is not None:
        leaving.check(tx, pool.overlay)
    own = [gateway_of(half) for half in halves]
    address = asked if asked is not None else own[0]
    if pool.overlay is not None and address in own:
        return address
    check_explicit(address, pool, halves)
    record = addresses.find(tx, pool.id, address)
    if record is None or record.state is not AddressState.RESERVED:
        addresses.hold(tx, pool.id, address, AddressState.RESERVED, now)
    return address


def _stays_reserved(tx: Transaction, pool: str, address: Address) -> bool:
    """Tell whether a gateway stays: that of a pool in use goes with its last use, or with its network."""
    record = addresses.find(tx, pool, address)
    if record is None or record.state is not AddressState.RESERVED:
        return False
    return pools.find(tx, pool).uses > 0


def _forget_plain(tx: Transaction, pool: str) -> None:
    """Forget a plain pool, unless a container is known to have an address of it: then the count was wrong.

    dockerd repeats the end of a network that its own end cut short; the collector puts the count right.
    """
    if not any(record.container for record in addresses.of_pool(tx, pool)):
        pools.forget_plain(tx, pool)


def _clear_unused(tx: Transaction, pool_id: str, now: float) -> str | None:
    """Clear a pool that nobody uses; answer its overlay where that is on trial, and its other pool unused too."""
    known = pools.every(tx)
    pool = next((pool for pool in known if pool.id == pool_id), None)
    if pool is None:
        return None
    if pool.overlay is None:
        _forget_plain(tx, pool_id)
        return None
    if not networks.is_of(tx, pool.overlay):
        addresses.free_pool(tx, pool_id, now)
    both = [one for one in known if one.overlay == pool.overlay]
    return pool.overlay if any(one.trial for one in both) and not any(one.uses for one in both) else None
