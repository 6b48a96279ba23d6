# SPDX-License-Identifier: Apache-2.0
"""Which addresses can come next, and how many of them are taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

import msgspec

from dni_driver.core.errors import Crowded, Exhausted, Refused
from dni_driver.core.overlays import Address, Network, gateway_of, last_host
from dni_driver.core.records import HELD, AddressRecord, AddressState, PoolRecord, ReservationRecord


class Span(msgspec.Struct, frozen=True):
    """A run of addresses that containers may have, both ends included, inside one half or plain subnet."""

    first: IPv4Address | IPv6Address
    last: IPv4Address | IPv6Address

    @property
    def size(self) -> int:
        """Count its addresses."""
        return max(0, int(self.last) - int(self.first) + 1)

    def __contains__(self, address: object) -> bool:
        """Tell whether an address lies in it."""
        return isinstance(address, type(self.first)) and int(self.first) <= int(address) <= int(self.last)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """How full a pool is, in addresses: `free` + `used` + `reserved` = `size`.

    A reserved address that its container has is a used one.
    """

    size: int
    used: int
    reserved: int
    free: int


def container_span(half: Network) -> Span:
    """Answer what a half offers to containers: all but network, gateway and broadcast address."""
    return Span(gateway_of(half) + 1, last_host(half))


def host_span(subnet: Network) -> Span:
    """Answer what a plain subnet offers: its gateway may be any of its hosts, and is recorded as such."""
    return Span(gateway_of(subnet), last_host(subnet))


def spans(pool: PoolRecord, halves: Iterable[Network]) -> list[Span]:
    """Answer the runs that a pool's blank requests may be given from, narrowed by `--ip-range`.

    `halves` are those of the pool's overlay that it hands out; a plain pool has its subnet instead.
    """
    found = [_narrowed(span, pool.ip_range) for span in whole_spans(pool, halves)]
    return [span for span in found if span.size]


def whole_spans(pool: PoolRecord, halves: Iterable[Network]) -> list[Span]:
    """Answer every run of a pool that a container may be in, whatever `--ip-range` says."""
    if pool.subnet is not None:
        return [host_span(pool.subnet)]
    return [container_span(half) for half in halves]


def _narrowed(span: Span, ip_range: Network | None) -> Span:
    if ip_range is None:
        return span
    if ip_range.version != span.first.version:
        return span
    first = max(int(span.first), int(ip_range.network_address))
    last = min(int(span.last), int(ip_range.broadcast_address))
    kind = type(span.first)
    return Span(kind(first), kind(max(last, first - 1)))


def without(spans: Iterable[Span], kept: Sequence[ReservationRecord]) -> list[Span]:
    """Answer spans less what is kept back; `kept` is in order, as the store has it."""
    return [piece for span in spans for piece in _less(span, kept)]


def _less(span: Span, kept: Iterable[ReservationRecord]) -> Iterator[Span]:
    kind, start, last = type(span.first), int(span.first), int(span.last)
    for gap in kept:
        if isinstance(gap.first, kind) and start <= int(gap.last) and int(gap.first) <= last:
            if start < int(gap.first):
                yield Span(kind(start), kind(int(gap.first) - 1))
            start = int(gap.last) + 1
    if start <= last:
        yield Span(kind(start), span.last)


def usage(spans: Sequence[Span], addresses: Iterable[AddressRecord], kept: Sequence[ReservationRecord] = ()) -> Usage:
    """Count a pool within some spans, by its addresses and by what is kept back of it."""
    size = sum(span.size for span in spans)
    taken = [one for one in addresses if any(one.address in span for span in spans)]
    used = sum(one.state in HELD for one in taken)
    own = sum(one.state is AddressState.RESERVED and not _is_kept(one.address, kept) for one in taken)
    idle = size - sum(span.size for span in without(spans, kept))
    idle -= sum(one.state in HELD and _is_kept(one.address, kept) for one in taken)
    return Usage(size=size, used=used, reserved=own + idle, free=size - used - own - idle)


def _is_kept(address: Address, kept: Iterable[ReservationRecord]) -> bool:
    return any(address in reservation for reservation in kept)


def first_gap(start: Address, last: Address, taken: Iterable[int]) -> Address | None:
    """Answer the lowest address from `start` to `last` that `taken` leaves out: numbers, ascending, from `start`."""
    candidate = int(start)
    for number in taken:
        if number > candidate:
            break
        candidate = number + 1
    return type(start)(candidate) if candidate <= int(last) else None


def check_explicit(address: Address, pool: PoolRecord, halves: Sequence[Network]) -> None:
    """Raise Refused, saying which addresses may be asked for, where a container cannot have this one."""
    usable = whole_spans(pool, halves)
    if any(address in span for span in usable):
        return
    runs = " or ".join(f"{span.first} to {span.last}" for span in usable)
    raise Refused(f"address {address} {_fault(address, pool, halves)}: choose one of {runs}")


def _fault(address: Address, pool: PoolRecord, halves: Iterable[Network]) -> str:
    for half in halves if pool.subnet is None else [pool.subnet]:
        if address.version == half.version and address in half:
            is_gateway = pool.subnet is None and address == gateway_of(half)
            role = "gateway" if is_gateway else "network or broadcast address"
            return f"is the {role} of {half}"
    return f"lies outside {_title(pool)} on this agent"


def exhausted(pool: PoolRecord, agent: str, usage: Usage, halves: int = 1, reason: str | None = None) -> Exhausted:
    """Build the error of a start that finds no free address: overlay, agent, size, used, who holds them.

    `halves` is how many Docker halves were looked through, `reason` why there can be no more of them; without one,
    there may be more in a moment (Crowded) where the overlay grows.
    """
    holders = f"`dni address ls --overlay {pool.overlay}`" if pool.overlay else "`dni address ls`"
    within = f" within --ip-range {pool.ip_range}" if pool.ip_range else ""
    is_waited_for = reason is None and pool.overlay is not None and pool.ip_range is None
    text = (
        f"no free address in {_title(pool, halves)} on agent {agent}{within}: {usage.used} of {usage.size} used, "
        f"{usage.reserved} reserved{_no_more(pool, _UNLEASED if is_waited_for else reason)}; {holders} lists the "
        f"holders, stopping a container frees its address"
    )
    return Crowded(text, pool.id) if is_waited_for else Exhausted(text)


_UNLEASED = "the agent has leased no more yet (`dni status` says why; is `dni up` running?)"


def _no_more(pool: PoolRecord, reason: str | None) -> str:
    if pool.overlay is None:
        return ""
    return ", and a network with --ip-range does not grow" if pool.ip_range else f", and {reason}"


def _title(pool: PoolRecord, halves: int = 1) -> str:
    if pool.overlay is None:
        return f"plain pool {pool.subnet}"
    kind = "Mesos" if pool.is_mesos else "Docker"
    what = f"the {kind} half" if halves == 1 else f"the {halves} {kind} halves"
    return f"{what} of overlay {pool.overlay!r}"
