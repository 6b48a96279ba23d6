# SPDX-License-Identifier: Apache-2.0
"""Which address comes next: never used ones first, lowest first; then the one freed longest ago."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

import msgspec

from dni_driver.core.errors import Exhausted, Refused
from dni_driver.core.overlays import Address, Network, gateway_of, last_host
from dni_driver.core.records import PoolRecord


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
    """How full a pool is, in addresses: `free` + `used` + `reserved` = `size`."""

    size: int
    used: int
    reserved: int
    free: int


def container_span(half: Network) -> Span:
    """Answer what a half offers to containers: all but network, gateway and broadcast address."""
    return Span(gateway_of(half) + 1, last_host(half))


def spans(halves: Iterable[Network], ip_range: Network | None) -> list[Span]:
    """Answer the runs that a blank request may be given from: the halves, narrowed by `--ip-range`."""
    found = [_narrowed(container_span(half), ip_range) for half in halves]
    return [span for span in found if span.size]


def _narrowed(span: Span, ip_range: Network | None) -> Span:
    if ip_range is None:
        return span
    if ip_range.version != span.first.version:
        return span
    first = max(int(span.first), int(ip_range.network_address))
    last = min(int(span.last), int(ip_range.broadcast_address))
    kind = type(span.first)
    return Span(kind(first), kind(max(last, first - 1)))


def first_gap(start: Address, last: Address, taken: Iterable[Address]) -> Address | None:
    """Answer the lowest address from `start` to `last` that `taken` (ascending, from `start`) leaves out."""
    candidate = int(start)
    for address in taken:
        if int(address) > candidate:
            break
        candidate = int(address) + 1
    return type(start)(candidate) if candidate <= int(last) else None


def check_explicit(address: Address, halves: Sequence[Network], pool: PoolRecord) -> Network:
    """Answer the half that an address asked for by `--ip` lies in; raise Refused where none may have it."""
    for half in halves:
        if address.version == half.version and address in half:
            _check_role(address, half)
            return half
    usable = " or ".join(f"{container_span(half).first} to {container_span(half).last}" for half in halves)
    raise Refused(f"address {address} lies outside {_title(pool)} on this agent: choose one of {usable}")


def _check_role(address: Address, half: Network) -> None:
    if address == gateway_of(half):
        raise Refused(f"address {address} is the gateway of {half}: choose another")
    if address not in container_span(half):
        raise Refused(f"address {address} is the network or broadcast address of {half}: choose another")


def exhausted(pool: PoolRecord, agent: str, usage: Usage) -> Exhausted:
    """Build the error of a start that finds no free address: overlay, agent, size, used, who holds them."""
    holders = f"`dni address ls --overlay {pool.overlay}`" if pool.overlay else "`dni address ls`"
    within = f" within --ip-range {pool.ip_range}" if pool.ip_range else ""
    return Exhausted(
        f"no free address in {_title(pool)} on agent {agent}{within}: {usage.used} of {usage.size} used, "
        f"{usage.reserved} reserved; {holders} lists the holders, stopping a container frees its address"
    )


def _title(pool: PoolRecord) -> str:
    return f"the Docker half of overlay {pool.overlay!r}" if pool.overlay else f"plain pool {pool.subnet}"
