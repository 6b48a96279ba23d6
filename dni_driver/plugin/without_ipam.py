# SPDX-License-Identifier: Apache-2.0
"""Networks made with `--ipam-driver null`: dockerd asks nobody for addresses, and takes those of CreateEndpoint.

There, and nowhere else, a container's driver-opts are known when its address is chosen (docs/decisions/0018).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Protocol

from dni_driver.core.errors import Refused
from dni_driver.core.options.endpoint import EndpointOptions
from dni_driver.core.options.network import NetworkOptions
from dni_driver.core.overlays import Family, Overlay, family_of, gateway_of
from dni_driver.core.records import Interface, NetworkRecord, docker_halves, pool_id, with_mask
from dni_driver.core.wanted import Link, wanted
from dni_driver.plugin import wire
from dni_driver.plugin.pool_finder import Patience, Reach, check_ipv6, check_routes
from dni_driver.plugin.reading import CREATE
from dni_driver.store import Store, Transaction, endpoints, leaving, overlays, pools
from dni_driver.store.claiming import Asked, claim, halves_of
from dni_driver.store.forget import forget_endpoint
from dni_driver.store.records import read_here

NULL_SPACE = "null"
"""The address space of dockerd's null IPAM driver; its pools are 0.0.0.0/0 and ::/0."""


class Sandboxes(Protocol):
    """What is asked of the kernel about containers."""

    def gone(self, links: Iterable[Link]) -> list[Link]:
        """Answer the links that are not there, and whose sandboxes are not either."""


def is_meant(told: Sequence[wire.IPAMData], options: NetworkOptions) -> bool:
    """Tell whether a new network has dockerd's null IPAM driver; raise Refused where `-o overlay` does not fit."""
    is_null = bool(told) and all(data.address_space == NULL_SPACE for data in told)
    if is_null and options.overlay is None:
        raise Refused(
            f"-d dni needs --ipam-driver dni: use `{CREATE} NAME`; or, so that containers can ask for an address by "
            f"driver-opt, name the overlay: `docker network create -d dni --ipam-driver null -o overlay=NAME NAME`"
        )
    if options.overlay is not None and not is_null:
        raise Refused(
            f"-o overlay={options.overlay} is for --ipam-driver null: with --ipam-driver dni use "
            f"--ipam-opt overlay={options.overlay}"
        )
    return is_null


def await_halves(store: Store, overlay: str, told: Sequence[wire.IPAMData]) -> None:
    """Wait for this host's part of the overlay of a new network; raise Unavailable, NotFound, Refused."""
    patience = Patience(store)
    patience.overlays(overlay)
    with store.read() as tx:
        known = overlays.find(tx, overlay)
        leaving.check(tx, overlay)
    for family in _families(told):
        _check_family(known, family)
        patience.halves(overlay, family)


def gateways(tx: Transaction, overlay: str, told: Sequence[wire.IPAMData]) -> list[Interface]:
    """Answer the gateways of a new network, one for each family that it was told to have; raise NotFound."""
    overlays.find(tx, overlay)
    held = overlays.agent_subnets(tx, overlay)
    firsts = [docker_halves(held, overlay, family)[0] for family in _families(told)]
    return [with_mask(gateway_of(half), half) for half in firsts]


def _check_family(overlay: Overlay, family: Family) -> None:
    """Refuse a family that an overlay does not speak: null IPAM asks for IPv4 unless it is told not to."""
    if overlay.space(family) is None:
        instead = "leave --ipv6 out" if family == 6 else "add --ipv6 --ipv4=false (Docker 28 and later)"  # noqa: PLR2004
        raise Refused(f"overlay {overlay.name!r} has no IPv{family} subnet: {instead}, or use --ipam-driver dni")


def _families(told: Sequence[wire.IPAMData]) -> list[Family]:
    return [family_of(wire.read_network(data.pool, "pool")) for data in told]


def take(tx: Transaction, network: NetworkRecord, reach: Reach, now: float) -> None:
    """Do for a new network what RequestPool does for others: keep off the host's routes, and count the pools."""
    if network.gateway6 is not None:
        check_ipv6(reach)
    for gateway in network.gateways():
        check_routes(reach, gateway.network)
        pools.use_overlay(tx, network.overlay, family_of(gateway.ip), None, now)


def chosen(tx: Transaction, network: NetworkRecord, options: EndpointOptions, now: float) -> Iterator[Interface]:
    """Claim an address of each family that a network has: the one asked for by driver-opt, or the next."""
    asked = {address.version: address for address in options.asked()}
    for gateway in network.gateways():
        pool = pools.find(tx, pool_id(network.overlay, family_of(gateway.ip)))
        halves = halves_of(tx, pool)
        address = claim(tx, pool, halves, Asked(address=asked.pop(gateway.version, None)), now)
        yield with_mask(address, next(half for half in halves if address in half))
    for address in asked.values():
        raise Refused(f"address {address} cannot be had: network {network.label!r} has no IPv{address.version}")


def forget_dead(store: Store, kernel: Sandboxes, joining: Container[str], clock: Callable[[], float]) -> list[str]:
    """Forget the endpoints whose containers are gone, kernel and all; answer them.

    `joining` are those on their way into a sandbox at this moment.
    """
    records = read_here(store)
    alone = {network.id for network in records.networks if network.without_ipam}
    joined = {one.id: one for one in records.endpoints if one.network in alone and one.id not in joining}
    gone = kernel.gone([link for link in wanted(records).links if link.endpoint in joined])
    if not gone:
        return []
    with store.write() as tx:
        dead = [one.endpoint for one in gone if endpoints.lookup(tx, one.endpoint) == joined[one.endpoint]]
        for endpoint in dead:
            forget_endpoint(tx, endpoint, clock())
    return dead
