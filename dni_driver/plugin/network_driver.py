# SPDX-License-Identifier: Apache-2.0
"""libnetwork's NetworkDriver: networks, endpoints, and their links (the protocol: libnetwork docs/remote.md).

dockerd never repeats a Create after its own restart, ignores what Delete and Leave answer, and sends no Delete
for a Create that failed: so each record is written before the kernel is touched, a repeat changes nothing, and
what fails half-way is taken back here.

Which sandbox an endpoint is in, and that it has ended, is noted: a failure of power ends them all anyway.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from typing import Protocol

import msgspec
import structlog

from dni_driver.core.addresses.reservations import check_not_a_containers
from dni_driver.core.errors import DniError, KernelError, NotMended, Unavailable
from dni_driver.core.mtu import Underlay, first_mtu, hosted
from dni_driver.core.names import docker_bridge
from dni_driver.core.options.endpoint import parse_endpoint_options
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import FAMILIES, Address, Network, family_of
from dni_driver.core.records import EndpointRecord, NetworkRecord, docker_halves, pool_id
from dni_driver.core.wanted import Link, Wanted, link_of, wanted
from dni_driver.plugin import reading, wire, without_ipam
from dni_driver.plugin.publishing import Publishing, Ways
from dni_driver.plugin.starts import Starts
from dni_driver.store import (
    Store,
    Transaction,
    addresses,
    endpoints,
    hosting,
    leaving,
    networked,
    networks,
    overlays,
    pools,
    reservations,
)
from dni_driver.store.forget import forget_endpoint, forget_network
from dni_driver.store.patience import when_there_is_room
from dni_driver.store.records import read_here

log = structlog.get_logger(__name__)


class Plumbing(Ways, Protocol):
    """What the network driver does to the kernel."""

    def attach(self, link: Link, beside: Sequence[Link]) -> None:
        """Make a container's link, ready for libnetwork to move; `beside` are the others of its sandbox."""

    def awaits_move(self, endpoint: str) -> bool:
        """Tell whether the container end of an endpoint's link is still in this namespace."""

    def confine(self, links: Collection[Link]) -> None:
        """Have links send as no more than what is theirs, now that another of their container has gone."""

    def carries(self, link: Link) -> bool:
        """Tell whether the bridge of a link has the addresses that lead on from there."""

    def detach(self, endpoints: Iterable[str]) -> None:
        """Delete links in the background."""

    def reconcile(self, read_wanted: Callable[[], Wanted]) -> list[str]:
        """Make the kernel agree with the records."""

    def underlay(self, agent: Address) -> Underlay:
        """Answer the link that carries the agent IP."""

    def overlapping_routes(self, network: Network) -> list[str]:
        """Name the on-link routes and name servers inside a subnet."""

    def ipv6_fault(self) -> str | None:
        """Say why this host speaks no IPv6; None where it does."""


class NetworkDriver:
    """Answers dockerd about networks and endpoints of this host."""

    def __init__(
        self,
        store: Store,
        kernel: Plumbing,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        at_once: int = sys.maxsize,
    ) -> None:
        """Take the store and the kernel; `at_once` endpoints of a network may be on their way into sandboxes."""
        self._store = store
        self._sleep = sleep
        self._kernel = kernel
        self._clock = clock
        self._joining: set[str] = set()
        self._publishing = Publishing(store, kernel)
        self._starts = Starts(at_once, kernel.awaits_move, sleep=sleep)

    def forget_the_dead(self) -> None:
        """Forget, when dockerd begins, what containers of an earlier one left on networks without IPAM.

        After its death dockerd cleans up before it loads a network driver, and never tells it of that; an IPAM driver
        it loads first. The collector would free the rest, too late for containers that want their address again.
        """
        try:
            dead = without_ipam.forget_dead(self._store, self._kernel, self._joining, self._clock)
        except DniError as error:
            log.warning("what the last dockerd left is the collector's", error=str(error))
            return
        self._kernel.detach(dead)
        if dead:
            log.info("forgotten what the last dockerd left", endpoints=[endpoint[:12] for endpoint in dead])

    def keep_ports(self) -> Sequence[str]:
        """Hold the published ports, again and again; answer in words which of them another program has."""
        return self._publishing.keep()

    def get_capabilities(self) -> wire.NetworkCapabilities:
        """Answer that networks are made on each host by itself, and reach other hosts."""
        return wire.NetworkCapabilities(scope="local", connectivity_scope="global", gw_alloc_checker=True)

    def allocate_network(self, request: wire.AllocateNetworkRequest) -> wire.AllocateNetworkResponse:
        """Hand a swarm manager its options back: everything is decided on each host."""
        return wire.AllocateNetworkResponse(options=request.options or {})

    def free_network(self, _: wire.NetworkRequest) -> wire.Response:
        """Nothing was allocated."""
        return wire.Response()

    def gw_alloc_check(self, request: wire.GwAllocCheckRequest) -> wire.GwAllocCheckResponse:
        """Ask for gateways always, and refuse bad options here already: nothing was asked of IPAM yet."""
        reading.network_options(request.options)
        return wire.GwAllocCheckResponse(skip_ipv4=False, skip_ipv6=False)

    def create_network(self, request: wire.CreateNetworkRequest) -> wire.Response:
        """Record a network on the overlay that its pools belong to, and make its bridge."""
        options = reading.network_options(request.options)
        told = reading.told_pools(request)
        if without_ipam.is_meant(told, options):
            without_ipam.await_halves(self._store, str(options.overlay), told)
        with self._store.write() as tx:
            fresh = not networks.known(tx, request.network_id)
            network = self._decide(tx, request.network_id, options, told)
            networks.add(tx, network)
            if fresh and network.without_ipam:
                without_ipam.take(tx, network, self._kernel, network.since)
            self._reserve(tx, network, reading.own_addresses(told))
        with ExitStack() as undo:
            if fresh:
                undo.callback(self._take_back, network.id)
            self._mend_bridge(docker_bridge(network.overlay))
            self._publishing.follow_networks()
            self._settle(network)
            undo.pop_all()
        return wire.Response()

    def delete_network(self, request: wire.NetworkRequest) -> wire.Response:
        """Forget a network with all that is recorded under it, and take its bridge away."""
        gone = self._forget_network(request.network_id)
        self._kernel.detach(gone)
        self._reconcile()
        self._publishing.follow_networks()
        return wire.Response()

    def create_endpoint(self, request: wire.CreateEndpointRequest) -> wire.CreateEndpointResponse:
        """Bind the addresses that IPAM gave, or choose them; answer those, and a MAC where dockerd brought none."""
        given = request.interface or wire.EndpointInterface()
        with self._starts.one_more(request.network_id, request.endpoint_id):
            endpoint = when_there_is_room(self._store, lambda: self._bound(request, given), self._sleep)
        return wire.CreateEndpointResponse(interface=reading.added(given, endpoint))

    def _bound(self, request: wire.CreateEndpointRequest, given: wire.EndpointInterface) -> EndpointRecord:
        """Record an endpoint, and bind its addresses to it."""
        now = self._clock()
        with self._store.write() as tx:
            network = networks.find(tx, request.network_id)
            leaving.check(tx, network.overlay)
            filled = self._filled(tx, network, request, given) if network.without_ipam else given
            endpoint = reading.endpoint(request, filled, now)
            reading.check_asked(endpoint, network)
            endpoints.add(tx, endpoint)
            for interface in endpoint.interfaces():
                pool = pool_id(network.overlay, family_of(interface.ip))
                addresses.bind(tx, pool, interface.ip, endpoint, endpoint.since)
        return endpoint

    def delete_endpoint(self, request: wire.EndpointRequest) -> wire.Response:
        """Forget an endpoint and delete its link; ReleaseAddress comes next, where there is IPAM."""
        now = self._clock()
        with self._store.note() as tx:
            gone = self._publishing.clear(tx, request.endpoint_id)
            endpoint = endpoints.lookup(tx, request.endpoint_id)
            if endpoint is not None and networks.find(tx, endpoint.network).without_ipam:
                # dockerd releases nothing that it did not request.
                forget_endpoint(tx, endpoint.id, now)
            else:
                addresses.unbind(tx, request.endpoint_id, now)
                endpoints.remove(tx, request.endpoint_id)
        self._starts.end(request.endpoint_id)
        self._kernel.detach([request.endpoint_id])
        self._publishing.withdraw(gone)
        return wire.Response()

    def endpoint_oper_info(self, _: wire.EndpointRequest) -> wire.OperInfoResponse:
        """Answer an empty object: dockerd shows none of it."""
        return wire.OperInfoResponse(value={})

    def join(self, request: wire.JoinRequest) -> wire.JoinResponse:
        """Record the sandbox and make the link; libnetwork moves, renames and addresses it."""
        sandbox = wire.read_path(request.sandbox_key, "sandbox key")
        self._joining.add(request.endpoint_id)
        try:
            with self._store.write() as tx:
                endpoint = endpoints.find(tx, request.endpoint_id)
                endpoints.joined(tx, endpoint.id, sandbox)
                links = {one.id: _link(tx, one) for one in endpoints.in_sandbox(tx, sandbox)}
                has_grown = _has_grown(tx, endpoint)
            link = links.pop(endpoint.id)
            if has_grown and not self._kernel.carries(link):
                self._mend_bridge(link.bridge)
            self._attach(link, list(links.values()))
            self._starts.linked(link.endpoint)
            self._publishing.follow_sandbox(links)
        finally:
            self._joining.discard(request.endpoint_id)
        gateways = {ip_address(gateway).version: gateway for gateway in link.gateways}
        return wire.JoinResponse(
            interface_name=wire.InterfaceName(src_name=link.container, dst_prefix=link.prefix),
            gateway=gateways.get(4, ""),
            gateway_ipv6=gateways.get(6, ""),
            static_routes=[
                wire.StaticRoute(destination=str(route.subnet), next_hop=route.gateway) for route in link.routes
            ],
            disable_gateway_service=not gateways,
        )

    def leave(self, request: wire.EndpointRequest) -> wire.Response:
        """Record that the endpoint is in no sandbox; libnetwork moves the link back by itself."""
        with self._store.note() as tx:
            gone = self._publishing.clear(tx, request.endpoint_id)
            endpoint = endpoints.lookup(tx, request.endpoint_id)
            endpoints.left(tx, request.endpoint_id)
            sandbox = endpoint.sandbox if endpoint is not None else None
            others = list(endpoints.in_sandbox(tx, sandbox)) if sandbox else []
        self._publishing.withdraw(gone)
        if others:
            self._confine(others)
            self._publishing.follow_sandbox(one.id for one in others)
        return wire.Response()

    def program_external_connectivity(self, request: wire.ProgramExternalConnectivityRequest) -> wire.Response:
        """Publish the ports of a container that this endpoint leads outside; a repeat says what there is to be."""
        self._publishing.publish(request.endpoint_id, reading.bindings(request))
        return wire.Response()

    def revoke_external_connectivity(self, request: wire.EndpointRequest) -> wire.Response:
        """Publish nothing of an endpoint any more."""
        self._publishing.revoke(request.endpoint_id)
        return wire.Response()

    def discover_new(self, _: wire.DiscoveryRequest) -> wire.Response:
        """Take note of nothing: peers come from the registry."""
        return wire.Response()

    def discover_delete(self, _: wire.DiscoveryRequest) -> wire.Response:
        """As discover_new."""
        return wire.Response()

    def _decide(
        self, tx: Transaction, network_id: str, options: NetworkOptions, told: Sequence[wire.IPAMData]
    ) -> NetworkRecord:
        now, asked = self._clock(), pools.every(tx)
        if options.overlay is not None:
            overlay = overlays.find(tx, options.overlay)
            gateway, gateway6 = reading.by_family(without_ipam.gateways(tx, overlay.name, told))
        else:
            overlay = overlays.find(tx, reading.overlay_meant(told, overlays.held(tx), asked))
            reading.check_families(told, overlay, asked, now)
            gateway, gateway6 = reading.gateways(told)
        network = NetworkRecord(
            id=network_id,
            overlay=overlay.name,
            options=options,
            mtu=options.mtu or 0,
            gateway=gateway,
            gateway6=gateway6,
            since=now,
        )
        return msgspec.structs.replace(network, mtu=self._mtu(tx, network))

    def _reserve(self, tx: Transaction, network: NetworkRecord, own: Iterable[Address]) -> None:
        """Keep what a network has for itself; raise InUse where that is reserved for a container."""
        kept = reservations.of_overlay(tx, network.overlay)
        for address in own:
            check_not_a_containers(address, kept)
            addresses.reserve(tx, pool_id(network.overlay, family_of(address)), address, network.id, network.since)

    def _filled(
        self,
        tx: Transaction,
        network: NetworkRecord,
        request: wire.CreateEndpointRequest,
        given: wire.EndpointInterface,
    ) -> wire.EndpointInterface:
        """Answer an interface with addresses: those chosen now, or by a call that this one repeats."""
        known = endpoints.lookup(tx, request.endpoint_id)
        options = parse_endpoint_options(request.options or {})
        chosen = known.interfaces() if known else without_ipam.chosen(tx, network, options, self._clock())
        address, address6 = reading.by_family(chosen)
        return msgspec.structs.replace(given, address=str(address or ""), address_ipv6=str(address6 or ""))

    def _mtu(self, tx: Transaction, network: NetworkRecord) -> int:
        """Answer the MTU of a new network: where the underlay cannot be told, the one its user gave is believed."""
        agent = overlays.agent_ip(tx)
        if agent is None:
            raise Unavailable("the dni agent has not started on this host yet: see `dni status`")
        try:
            underlay = hosted(self._kernel.underlay(agent), hosting.get(tx))
        except KernelError:
            if network.options.mtu is None:
                raise
            return network.options.mtu
        return first_mtu(network, overlays.find(tx, network.overlay), underlay)

    def _settle(self, network: NetworkRecord) -> None:
        """Have the network's overlay stay: one defined for it goes again where the network fails.

        And have it be known to have had its network: the agent makes no other where this one is removed at once.
        """
        with self._store.write() as tx:
            pools.settle(tx, network.overlay)
            networked.note(tx, network.overlay, made=network.options.is_agents)

    def _attach(self, link: Link, beside: Sequence[Link]) -> None:
        try:
            self._kernel.attach(link, beside)
        except DniError:
            log.warning("link could not be made, mending the host first", endpoint=link.endpoint[:12])
            self._mend()
            self._kernel.attach(link, beside)

    def _confine(self, others: Iterable[EndpointRecord]) -> None:
        """Have what is left in a sandbox send as no more than its own; the next reconcile does what cannot be now."""
        with suppress(DniError):
            with self._store.read() as tx:
                links = [_link(tx, one) for one in others]
            self._kernel.confine(links)

    def _take_back(self, network: str) -> None:
        self._forget_network(network)
        self._mend()

    def _mend_bridge(self, bridge: str) -> None:
        """Reconcile; raise KernelError only for what concerns this bridge."""
        try:
            self._reconcile()
        except NotMended as error:
            log.warning("the host could not be mended altogether", error=str(error))
            if failures := error.on(bridge):
                raise KernelError("; ".join(failures)) from error

    def _mend(self) -> None:
        """Reconcile as far as that goes: what is at fault may concern another network."""
        try:
            self._reconcile()
        except DniError as error:
            log.warning("the host could not be mended altogether", error=str(error))

    def _forget_network(self, network: str) -> list[str]:
        now = self._clock()
        with self._store.write() as tx:
            if not networks.known(tx, network):
                return []
            return forget_network(tx, network, now)

    def _reconcile(self) -> None:
        self._kernel.reconcile(lambda: wanted(read_here(self._store)))


def _has_grown(tx: Transaction, endpoint: EndpointRecord) -> bool:
    """Tell whether its overlay got more room here, so that a gateway may have been recorded just now."""
    overlay = networks.find(tx, endpoint.network).overlay
    return any(len(docker_halves(overlays.held(tx, overlay), overlay, family)) > 1 for family in FAMILIES)


def _link(tx: Transaction, endpoint: EndpointRecord) -> Link:
    network = networks.find(tx, endpoint.network)
    halves = docker_halves(overlays.held(tx, network.overlay), network.overlay)
    return link_of(endpoint, network, halves, overlays.find(tx, network.overlay).subnets())
