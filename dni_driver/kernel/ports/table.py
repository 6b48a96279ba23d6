# SPDX-License-Identifier: Apache-2.0
"""The nftables table `inet dni-ports`: which ports of this host lead to which containers.

The rules are the same whatever is published; each port is an element of a map. ::1 and link-local addresses of the
host stay out: a packet for ::1 cannot leave this host under another name where bridged frames go through the
firewall, and one from a link-local address is not forwarded at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from dni_driver.core.overlays import FAMILIES, Address, Family
from dni_driver.core.ports import NUMBERS, HostPort, Published
from dni_driver.core.records import Interface
from dni_driver.core.wanted import Bridge

NAME = "inet dni-ports"
REMOVAL = f"add table {NAME}\ndelete table {NAME}\n"
"""What to feed `nft -f -` to be without the table."""

Entry = tuple[HostPort, Address, int]
"""An element: a port of this host, and the address and port that it leads to."""

Neighbour = tuple[str, Address]
"""An element: a bridge, and the address that a container there has on another, to which a port leads."""

_ADDRESS = {4: "ipv4_addr", 6: "ipv6_addr"}
_IP = {4: "ip", 6: "ip6"}
_PROTOCOLS = "meta l4proto { tcp, udp, sctp }"
_LOOPBACK = "127.0.0.0/8"


def entries(ports: Iterable[Published]) -> frozenset[Entry]:
    """Answer the elements that published ports make."""
    return frozenset((one.at, one.target, one.port) for one in ports)


def neighbours(ports: Iterable[Published], bridges: Iterable[Bridge]) -> frozenset[Neighbour]:
    """Answer the elements that published ports make of containers that are on several of these bridges."""
    there = neighbour_sets(bridges)
    found = ((bridge, one.target) for one in ports for bridge in one.beside)
    return frozenset(one for one in found if _set_of(one) in there)


def neighbour_sets(bridges: Iterable[Bridge]) -> dict[str, str]:
    """Answer the sets of those elements by their names, with the bridge that each is of."""
    return {_set_of((bridge.name, address)): bridge.name for bridge in bridges for address in bridge.addresses}


def _set_of(neighbour: tuple[str, Address | Interface]) -> str:
    return f"{neighbour[0]}-{neighbour[1].version}"


def structure(bridges: Sequence[Bridge]) -> str:
    """Answer the table without its elements."""
    maps = "".join(f"\tmap {name} {{ type {kinds}; }}\n" for name, kinds in _maps())
    maps += "".join(f"\tset {name} {{ type {_ADDRESS[int(name[-1])]}; }}\n" for name in neighbour_sets(bridges))
    chains = (_ports(), *_entrances(), _martians(), _postrouting(bridges))
    return f"{REMOVAL}table {NAME} {{\n{maps}{''.join(chains)}}}\n"


def ruleset(bridges: Sequence[Bridge], ports: Sequence[Published]) -> str:
    """Answer what to feed `nft -f -`: the whole table anew in one transaction."""
    return structure(bridges) + changes((), entries(ports)) + meetings((), neighbours(ports, bridges))


def changes(gone: Iterable[Entry], new: Iterable[Entry]) -> str:
    """Answer what to feed `nft -f -` to exchange elements in one transaction."""
    lines = [f"delete element {NAME} {name} {{ {', '.join(keys)} }}" for name, keys in _sorted(gone, _key)]
    lines += [f"add element {NAME} {name} {{ {', '.join(pairs)} }}" for name, pairs in _sorted(new, _pair)]
    return "".join(f"{line}\n" for line in lines)


def meetings(gone: Iterable[Neighbour], new: Iterable[Neighbour]) -> str:
    """Answer what to feed `nft -f -` to exchange elements of bridges."""
    return "".join(
        f"{verb} element {NAME} {_set_of(one)} {{ {one[1]} }}\n"
        for verb, found in (("delete", gone), ("add", new))
        for one in sorted(found, key=str)
    )


def map_of(at: HostPort) -> str:
    """Answer the map that a port of the host belongs to."""
    return f"{'any' if at.ip.is_unspecified else 'one'}{at.family}"


MAPS: Mapping[str, Family] = {f"{kind}{family}": family for family in FAMILIES for kind in ("one", "any")}
"""The maps by their names: for ports at one address of the host, and at any of them."""


def parsed(name: str, key: bytes, data: bytes) -> Entry:
    """Read an element as the kernel keeps it: each part at a multiple of 4 bytes."""
    size = 4 if MAPS[name] == 4 else 16  # noqa: PLR2004
    packed, rest = (key[:size], key[size:]) if name.startswith("one") else (bytes(size), key)
    at = HostPort(NUMBERS[rest[0]], ip_address(packed), int.from_bytes(rest[4:6], "big"))
    return at, ip_address(data[:size]), int.from_bytes(data[size : size + 2], "big")


def _maps() -> Iterator[tuple[str, str]]:
    for name, family in MAPS.items():
        key = f"{_ADDRESS[family]} . " if name.startswith("one") else ""
        yield name, f"{key}inet_proto . inet_service : {_ADDRESS[family]} . inet_service"


def _sorted(found: Iterable[Entry], write: Callable[[Entry], str]) -> Iterator[tuple[str, list[str]]]:
    by_map: dict[str, list[str]] = {}
    for entry in sorted(found, key=str):
        by_map.setdefault(map_of(entry[0]), []).append(write(entry))
    yield from by_map.items()


def _key(entry: Entry) -> str:
    at = entry[0]
    return " . ".join([*([] if at.ip.is_unspecified else [str(at.ip)]), at.protocol, str(at.port)])


def _pair(entry: Entry) -> str:
    return f"{_key(entry)} : {entry[1]} . {entry[2]}"


def _chain(name: str, *lines: str) -> str:
    return f"\tchain {name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def _ports() -> str:
    rules = []
    for name, family in MAPS.items():
        key = f"{_IP[family]} daddr . " if name.startswith("one") else ""
        rules.append(f"{_PROTOCOLS} dnat {_IP[family]} to {key}meta l4proto . th dport map @{name}")
    return _chain("ports", "ip6 daddr { ::1, fe80::/10 } return", *rules)


def _entrances() -> Iterator[str]:
    """Render where packets for this host come by: from elsewhere, and from this host itself."""
    for hook in ("prerouting", "output"):
        yield _chain(hook, f"type nat hook {hook} priority -100; policy accept;", "fib daddr type local jump ports")


def _martians() -> str:
    """Render what keeps containers off this host's loopback, which `route_localnet` would let them reach."""
    return _chain(
        "martians",
        "type filter hook prerouting priority -300; policy accept;",
        f'iifname "d-*" ip daddr {_LOOPBACK} drop',
        f'iifname "d-*" ip saddr {_LOOPBACK} drop',
    )


def _postrouting(bridges: Sequence[Bridge]) -> str:
    """Render whom a container must see under this host's name, for its replies to come back by the host.

    Those are its neighbours on the same bridge and itself, whom it would answer past the host, as its neighbours on
    another bridge that it is on; and this host's loopback, which nobody else can reach.
    """
    rules = [f'oifname "d-*" ct status dnat ip saddr {_LOOPBACK} masquerade']
    for bridge in bridges:
        for address in sorted(bridge.addresses, key=str):
            saddr = f"{_IP[address.version]} saddr {address.network}"
            daddr = f"{_IP[address.version]} daddr @{_set_of((bridge.name, address))}"
            rules.append(f'oifname "{bridge.name}" ct status dnat {saddr} masquerade')
            rules.append(f'oifname "d-*" ct status dnat {saddr} {daddr} masquerade')
    return _chain("postrouting", "type nat hook postrouting priority srcnat; policy accept;", *rules)
