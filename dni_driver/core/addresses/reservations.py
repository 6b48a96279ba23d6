# SPDX-License-Identifier: Apache-2.0
"""Addresses that a person keeps back: which are meant, and who may have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address, ip_network

import msgspec

from dni_driver.core.addresses.allocation import Span, check_explicit, whole_spans
from dni_driver.core.errors import InUse, NotFound, Refused
from dni_driver.core.names import check_container_name
from dni_driver.core.overlays import Address, Family, Network, Overlay, family_of
from dni_driver.core.records import (
    HELD,
    AddressRecord,
    NetworkRecord,
    PoolRecord,
    Records,
    ReservationRecord,
    pool_id,
)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a person wants to keep back of an overlay, or to give up again.

    `span` is None for whatever comes next, of `family` where that is said; `container` is for whom.
    """

    overlay: str
    span: Span | None = None
    container: str | None = None
    family: Family | None = None

    def __str__(self) -> str:
        """Write what is meant as it is typed: the addresses, else the option."""
        return _written(self.span) if self.span else f"--for {self.container}"


def read_wish(
    overlay: str, addresses: str | None = None, container: str | None = None, family: Family | None = None
) -> Wish:
    """Read what a person typed; raise Refused with how to type it."""
    span = read_span(addresses) if addresses is not None else None
    if container is not None:
        check_container_name(container)
    if span is None and container is None:
        raise Refused("nothing is named: give an address, a range such as 9.0.0.200-9.0.0.220, or --for NAME")
    if span is not None and family is not None:
        raise Refused(f"{addresses} says by itself whether it is IPv6: leave --ipv6 out")
    return Wish(overlay=overlay, span=span, container=container, family=family)


def read_span(text: str) -> Span:
    """Read `9.0.0.140`, `9.0.0.200-9.0.0.220` or `9.0.0.192/28`; raise Refused."""
    try:
        if "%" in text:
            raise ValueError("an address has no zone here")  # noqa: TRY301 - said as the others are
        if "/" in text:
            subnet = ip_network(text)
            return Span(subnet.network_address, subnet.broadcast_address)
        first, dash, last = (part.strip() for part in text.partition("-"))
        span = Span(ip_address(first), ip_address(last if dash else first))
    except ValueError as error:
        raise Refused(
            f"{text[:80]!r} is not understood ({error}): write 9.0.0.140, 9.0.0.200-9.0.0.220 or 9.0.0.192/28"
        ) from None
    if span.last not in span:
        raise Refused(f"{text[:80]!r} does not go from an address to a later one: write 9.0.0.200-9.0.0.220")
    return span


def family_meant(wish: Wish, overlay: Overlay) -> Family:
    """Answer the family of a wish: as typed, else IPv4 if the overlay has it. Raise Refused for another."""
    first: Family = 4 if overlay.space(4) else 6
    family = family_of(wish.span.first) if wish.span else wish.family or first
    if overlay.space(family) is None:
        raise Refused(f"overlay {overlay.name!r} has no IPv{family} subnet: `dni overlay ls` shows what it has")
    return family


def standing(wish: Wish, family: Family, kept: Iterable[ReservationRecord]) -> ReservationRecord | None:
    """Answer the reservation that grants a wish already; raise InUse where another stands in its way."""
    for one in kept:
        if one.family != family:
            continue
        same_name = wish.container is not None and one.container == wish.container
        if same_name and (wish.span is None or _is(one, wish.span)):
            return one
        if same_name:
            raise InUse(f"{one} is reserved for container {one.container} already: {_release(one)} first")
        if wish.span is not None and _overlap(one, wish.span):
            if _is(one, wish.span) and one.container == wish.container:
                return one
            raise InUse(f"{_written(wish.span)} is not free to reserve: {describe(one)}; {_release(one)} first")
    return None


def check_usable(wish: Wish, span: Span, pool: PoolRecord, halves: Sequence[Network]) -> None:
    """Raise Refused, saying which addresses there are, where a container could not have all of a span."""
    if wish.container is not None and pool.is_mesos:
        raise Refused(
            f"{_written(span)} lies in the Mesos half, and no runtime of CNI tells dni what a container is called: "
            f"leave --for out, and ask for that address"
        )
    if wish.container is not None and span.size > 1:
        raise Refused(
            f"a container has one address of an overlay: reserve one for {wish.container!r}, or {_written(span)} "
            f"without --for"
        )
    for address in (span.first, span.last):
        check_explicit(address, pool, halves)
    if not any(span.first in whole and span.last in whole for whole in whole_spans(pool, halves)):
        raise Refused(f"{_written(span)} goes from one half into another: reserve each part by itself")


def released(wish: Wish, kept: Iterable[ReservationRecord]) -> list[ReservationRecord]:
    """Answer the reservations that a wish gives up; raise NotFound where there is none like it."""
    found = [one for one in kept if _meets(one, wish)]
    if not found:
        around = [one for one in kept if wish.span is not None and _overlap(one, wish.span)]
        there = f"{describe(around[0])}; " if around else ""
        raise NotFound(
            f"{wish} is not reserved in overlay {wish.overlay!r}: {there}`dni address ls --overlay {wish.overlay}` "
            f"shows what is"
        )
    return found


def _meets(one: ReservationRecord, wish: Wish) -> bool:
    is_named = wish.container is None or one.container == wish.container
    return is_named and (wish.span is None or _is(one, wish.span)) and wish.family in (None, one.family)


def reserved_for(container: str | None, family: Family, kept: Iterable[ReservationRecord]) -> Address | None:
    """Answer the address that is kept for a container; None without one, or where its name is not known."""
    if container is None:
        return None
    return next((one.first for one in kept if one.container == container and one.family == family), None)


def check_not_anothers(address: Address, container: str | None, kept: Iterable[ReservationRecord]) -> None:
    """Raise InUse where an address is kept for another container than asks for it, as far as that is known.

    Engines before 29 do not say who asks: whoever types the address is taken for the one it is for.
    """
    for one in kept:
        if address in one and one.container not in (None, container) and container is not None:
            raise InUse(
                f"address {address} is reserved for container {one.container}: choose another, or "
                f"{_release(one)} first"
            )


def check_not_a_containers(address: Address, kept: Iterable[ReservationRecord]) -> None:
    """Raise InUse where a network wants for itself what is kept for a container."""
    for one in kept:
        if address in one and one.container is not None:
            raise InUse(
                f"address {address} is reserved for container {one.container}: choose another for the network, or "
                f"{_release(one)} first"
            )


def describe(one: ReservationRecord) -> str:
    """Say what is kept back, and for whom."""
    return f"{one} is reserved for container {one.container}" if one.container else f"{one} is held back"


def _release(one: ReservationRecord) -> str:
    return f"`dni address release {one.overlay} {one}`"


def strays(records: Records) -> Iterator[str]:
    """Say which containers run without the address kept for them, and which with one that is kept for another."""
    networks = {network.overlay: network for network in records.networks}
    for one in records.reservations:
        if one.container is not None and one.overlay in networks:
            for record in records.addresses:
                if record.pool == pool_id(one.overlay, one.family) and record.state in HELD and record.container:
                    yield from _stray(one, record, networks[one.overlay])


def _stray(one: ReservationRecord, record: AddressRecord, network: NetworkRecord) -> Iterator[str]:
    if record.container == one.container and record.address != one.first:
        yield (
            f"container {one.container} has {record.address}, not {one.first}, which is reserved for it: "
            f"{_remedy(one.first, network)}"
        )
    if record.container != one.container and record.address == one.first:
        yield f"container {record.container} has {one.first}, which is reserved for container {one.container}"


def _remedy(address: Address, network: NetworkRecord) -> str:
    words = start_words(address, network)
    if words is None:
        return (
            "Docker Engine 29 gives it at the next start; earlier ones take --ip only from the network's first half"
        )
    if network.without_ipam:
        return f"start it with `{words}`"
    return (
        f"Docker Engine 29 gives it at the next start, before that start it with `{words}`, which Docker takes where "
        f"the network was created with --subnet"
    )


def start_words(address: Address, network: NetworkRecord) -> str | None:
    """Answer the options of `docker run` that give a container this address on this network, on every engine.

    None where there are none: Docker itself refuses an `--ip` outside the half that it was told of.
    """
    told = [gateway.network for gateway in network.gateways() if gateway.version == address.version]
    if told and not network.without_ipam and address not in told[0]:
        return None
    option = "address" if address.version == 4 else "address6"  # noqa: PLR2004
    if network.without_ipam:
        return f"--network name={network.label},driver-opt=dni.{option}={address}"
    return f"--net {network.label} --ip{'6' if option == 'address6' else ''} {address}"


def _is(one: ReservationRecord, span: Span) -> bool:
    return (one.first, one.last) == (span.first, span.last)


def _overlap(one: ReservationRecord, span: Span) -> bool:
    return one.first in span or span.first in one


def _written(span: Span) -> str:
    return str(span.first) if span.first == span.last else f"{span.first}-{span.last}"
