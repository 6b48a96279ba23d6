# SPDX-License-Identifier: Apache-2.0
"""Published ports: what a container asks for, which ports of the host it may have, and who is in the way."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

import msgspec

from dni_driver.core.errors import MalformedRequest, Refused
from dni_driver.core.overlays import FAMILIES, Address, Family, family_of

LARGEST_PORT = 65535

ANY: dict[Family, Address] = {4: IPv4Address(0), 6: IPv6Address(0)}
"""Every address of the host, of one family."""


def bracketed(address: Address) -> str:
    """Write an address as it stands before a port."""
    return f"[{address}]" if isinstance(address, IPv6Address) else str(address)


class Protocol(StrEnum):
    """What travels between ports."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


NUMBERS = {6: Protocol.TCP, 17: Protocol.UDP, 132: Protocol.SCTP}
"""The protocols as IP counts them."""


class HostPort(msgspec.Struct, frozen=True, gc=False):
    """A port of this host, at one of its addresses or, where that is 0.0.0.0 or ::, at all of that family."""

    protocol: Protocol
    ip: IPv4Address | IPv6Address
    port: int

    @property
    def family(self) -> Family:
        """Answer 4 or 6."""
        return family_of(self.ip)

    def overlaps(self, other: HostPort) -> bool:
        """Tell whether a packet could be for both."""
        if (self.protocol, self.port, self.family) != (other.protocol, other.port, other.family):
            return False
        return self.ip == other.ip or self.ip.is_unspecified or other.ip.is_unspecified

    def __str__(self) -> str:
        """Write it as Docker does: `0.0.0.0:8080/tcp`."""
        return f"{bracketed(self.ip)}:{self.port}/{self.protocol}"


class Binding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One `-p`: a port of the container, and where on the host it is wanted.

    `host_ip` is None for every address; `first` to `last` are the ports that will do, 0 and 0 for any.
    """

    protocol: Protocol
    port: int
    host_ip: IPv4Address | IPv6Address | None = None
    first: int = 0
    last: int = 0

    @property
    def leeway(self) -> int:
        """Answer how many ports will do."""
        return self.last - self.first + 1 if self.first else LARGEST_PORT

    def __str__(self) -> str:
        """Write it as a user types it."""
        range_of_ports = f"{self.first}-{self.last}" if self.last > self.first else str(self.first or "")
        host = [] if self.host_ip is None else [bracketed(self.host_ip)]
        parts = [*host, range_of_ports, str(self.port)] if host or self.first else [str(self.port)]
        return f"-p {':'.join(parts)}/{self.protocol}"


class PortRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A port of the host that an endpoint has, and the port of its container that it leads to."""

    at: HostPort
    endpoint: str
    port: int


class Published(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A published port as the kernel should have it: from a port of the host to one of a container on a bridge.

    `beside` are other bridges that the container is on, and would answer its neighbours there by.
    """

    at: HostPort
    target: IPv4Address | IPv6Address
    port: int
    bridge: str
    beside: tuple[str, ...] = ()


class Relayed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A published port with callers that are carried to its container by a program.

    It tries the targets one by one until one answers; datagrams go to the first.
    """

    at: HostPort
    targets: tuple[IPv4Address | IPv6Address, ...]
    port: int


def binding(protocol: int, port: int, host_ip: Address | None, first: int, last: int) -> Binding:
    """Build a binding from numbers; raise MalformedRequest, or Refused for a protocol that has no ports here."""
    if protocol not in NUMBERS:
        raise Refused(f"protocol {protocol} cannot be published: use tcp (6), udp (17) or sctp (132)")
    last = max(first, last)
    if not 0 < port <= LARGEST_PORT or not 0 <= first <= last <= LARGEST_PORT or (last and not first):
        raise MalformedRequest(f"ports {first}-{last} to {port} cannot be published: they are 1 to {LARGEST_PORT}")
    # 0.0.0.0 and :: say which family, None says both.
    return Binding(protocol=NUMBERS[protocol], port=port, host_ip=host_ip, first=first, last=last)


def in_order(bindings: Iterable[Binding]) -> list[Binding]:
    """Answer bindings as they should be served, those with the least leeway first; the same port twice is one wish.

    Of ports that are any, each is a wish of its own.
    """
    wishes = {(one, 0 if one.first else number): one for number, one in enumerate(bindings)}
    return sorted(wishes.values(), key=lambda one: one.leeway)


def host_addresses(wish: Binding, own: Sequence[Address], relayed: Container[Protocol]) -> list[Address]:
    """Answer the host's addresses that a wish is about, one of each family in which the container can be reached.

    `own` are the container's, `relayed` the protocols that this host carries from IPv6 to containers; raises Refused
    where an address is asked for in whose family it cannot.
    """
    families = _reached(wish, own, relayed)
    if wish.host_ip is None:
        return [ANY[family] for family in FAMILIES if family in families]
    if family_of(wish.host_ip) not in families or (is_loopback6(wish.host_ip) and wish.protocol not in relayed):
        raise Refused(_unreached(wish, own))
    return [wish.host_ip]


def is_loopback6(address: Address) -> bool:
    """Tell whether an address is ::1, from which the kernel forwards nothing."""
    return isinstance(address, IPv6Address) and address.is_loopback


def _reached(wish: Binding, own: Iterable[Address], relayed: Container[Protocol]) -> set[Family]:
    spoken = {family_of(address) for address in own}
    return spoken | {6} if spoken and wish.protocol in relayed else spoken


def _unreached(wish: Binding, own: Iterable[Address]) -> str:
    families = {family_of(address) for address in own}
    if wish.host_ip is None or wish.host_ip.version == 4:  # noqa: PLR2004
        return (
            f"`{wish}` cannot be published: the container has no IPv4 address; leave {wish.host_ip} out, or use a "
            f"network that gives it one"
        )
    why = "nothing is forwarded from there" if families >= {6} else "the container has no IPv6 address"
    sctp = " and sockets of SCTP (`modprobe sctp`)" if wish.protocol is Protocol.SCTP else ""
    return (
        f"`{wish}` cannot be published: {why}, and to carry {wish.protocol} to it takes a host with IPv6{sctp}; "
        f"leave {wish.host_ip} out, or use an address of IPv4"
    )


def candidates(wish: Binding, dynamic: range, last_given: int | None) -> Iterator[int]:
    """Answer the ports of the host that will do, in the order in which to try them.

    Any port: those of `dynamic`, from behind the one last given, so that a freed one is not given at once.
    """
    if wish.first:
        yield from range(wish.first, wish.last + 1)
        return
    start = last_given + 1 if last_given is not None and last_given in dynamic else dynamic.start
    yield from range(start, dynamic.stop)
    yield from range(dynamic.start, start)


def served(
    wishes: Iterable[tuple[Binding, Sequence[Address]]], mine: Iterable[PortRecord], dynamic: range
) -> dict[int, list[PortRecord]]:
    """Answer which wishes, by their place, are served already by what an endpoint has; each record serves one.

    Each wish comes with the host's addresses that it is about.
    """
    left = {(record.at, record.port): record for record in mine}
    leading: dict[tuple[Protocol, int], list[int]] = {}
    for at, port in left:
        leading.setdefault((at.protocol, port), []).append(at.port)
    found: dict[int, list[PortRecord]] = {}
    for number, (wish, ips) in enumerate(wishes):
        right = range(wish.first, wish.last + 1) if wish.first else dynamic
        for port in leading.get((wish.protocol, wish.port), ()):
            keys = [(HostPort(wish.protocol, ip, port), wish.port) for ip in ips]
            if port in right and all(key in left for key in keys):
                found[number] = [left.pop(key) for key in keys]
                break
    return found


def are_shared(one: PortRecord, other: PortRecord) -> bool:
    """Tell whether two endpoints of one container can have a port both: it leads to one port, whichever it takes."""
    return one.at == other.at and one.port == other.port
