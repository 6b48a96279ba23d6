# SPDX-License-Identifier: Apache-2.0
"""Overlays, agent subnets and their two halves (the DC/OS arithmetic, for both families)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

import msgspec

from dni_driver.core.errors import Exhausted, InUse, Refused
from dni_driver.core.names import check_overlay_name

Family = Literal[4, 6]
"""4 or 6, as in IPv4 and IPv6."""

Backend = Literal["vxlan", "direct", "auto"]
"""How packets travel to other agents."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

FAMILIES: tuple[Family, Family] = (4, 6)
DEFAULT_PREFIX: dict[Family, int] = {4: 24, 6: 80}
LONGEST_PREFIX: dict[Family, int] = {4: 29, 6: 125}
"""A half must hold its gateway and one container at the least."""

_REMEMBERED = 256
"""Agent subnets whose halves need not be reckoned again."""

VTEP_SUBNET = IPv4Network("44.128.0.0/20")
"""Where the agents' VTEP addresses come from."""

_SPECIAL: dict[str, tuple[Network, ...]] = {
    "addresses that mean this host": (IPv4Network("0.0.0.0/8"), IPv4Network("127.0.0.0/8"), IPv6Network("::/127")),
    "link-local addresses": (IPv4Network("169.254.0.0/16"), IPv6Network("fe80::/10")),
    "multicast and reserved addresses": (IPv4Network("224.0.0.0/3"), IPv6Network("ff00::/8")),
}
SPECIAL_RANGES = [network for networks in _SPECIAL.values() for network in networks]


class Overlay(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual network that spans hosts.

    `subnet` is cut into agent subnets of `prefix` bits, `subnet6` into agent subnets of `prefix6` bits; at
    least one of the two is there.
    """

    name: str
    subnet: IPv4Network | None = None
    prefix: int | None = None
    subnet6: IPv6Network | None = None
    prefix6: int | None = None
    backend: Backend = "vxlan"

    def space(self, family: Family) -> tuple[Network, int] | None:
        """Answer the subnet and agent prefix of one family, or None where the overlay has none."""
        if family == 4:  # noqa: PLR2004
            return (self.subnet, self.prefix or DEFAULT_PREFIX[4]) if self.subnet else None
        return (self.subnet6, self.prefix6 or DEFAULT_PREFIX[6]) if self.subnet6 else None

    def subnets(self) -> list[Network]:
        """Answer the overlay's subnets, IPv4 first."""
        return [space[0] for family in FAMILIES if (space := self.space(family))]


class AgentSubnet(msgspec.Struct, frozen=True, kw_only=True):
    """The slice of an overlay that one agent holds. The first half is Mesos', the second Docker's."""

    overlay: str
    subnet: IPv4Network | IPv6Network

    @property
    def family(self) -> Family:
        """Answer 4 or 6."""
        return family_of(self.subnet)

    @property
    def mesos_half(self) -> Network:
        """Answer the first half: `9.0.2.0/25` of `9.0.2.0/24`."""
        return _halves(self.subnet)[0]

    @property
    def docker_half(self) -> Network:
        """Answer the second half: `9.0.2.128/25` of `9.0.2.0/24`."""
        return _halves(self.subnet)[1]


@lru_cache(_REMEMBERED)
def _halves(subnet: Network) -> tuple[Network, ...]:
    return tuple(subnet.subnets())


def family_of(thing: Address | Network) -> Family:
    """Answer the family of an address or network."""
    return 4 if thing.version == 4 else 6  # noqa: PLR2004


def share_addresses(one: Network, other: Network) -> bool:
    """Tell whether two networks, of whatever families, have addresses in common."""
    return one.version == other.version and one.overlaps(other)


def gateway_of(half: Network) -> Address:
    """Answer a half's gateway: its first host, as host-local and Docker's own IPAM choose it."""
    return half.network_address + 1


def last_host(half: Network) -> Address:
    """Answer the last address a container can have: IPv4 keeps its broadcast address free."""
    return half.broadcast_address - 1 if half.version == 4 else half.broadcast_address  # noqa: PLR2004


def define(
    name: str,
    subnets: Iterable[Network],
    prefixes: Iterable[int | None] = (None, None),
    backend: Backend = "vxlan",
) -> Overlay:
    """Build an overlay from what a user typed; raise Refused with the rule it breaks.

    A missing prefix is 24 (IPv6: 80), or the subnet's own where that is longer: then one agent gets it all.
    """
    check_overlay_name(name)
    by_family: dict[Family, Network] = {}
    for subnet in subnets:
        if family_of(subnet) in by_family:
            raise Refused(f"overlay {name!r} can have one IPv4 and one IPv6 subnet, not two of a kind")
        by_family[family_of(subnet)] = subnet
    if not by_family:
        raise Refused(f"overlay {name!r} needs a subnet, such as 10.64.0.0/16")
    for subnet in by_family.values():
        _check_usable(name, subnet)
    prefix, prefix6 = prefixes
    subnet4, subnet6 = by_family.get(4), by_family.get(6)
    return Overlay(
        name=name,
        subnet=subnet4 if isinstance(subnet4, IPv4Network) else None,
        prefix=_agent_prefix(name, subnet4, prefix) if subnet4 else None,
        subnet6=subnet6 if isinstance(subnet6, IPv6Network) else None,
        prefix6=_agent_prefix(name, subnet6, prefix6) if subnet6 else None,
        backend=backend,
    )


def _check_usable(name: str, subnet: Network) -> None:
    """Refuse what no container can be in: special addresses (RFC 6890)."""
    special = next((why for why, of_that_kind in _SPECIAL.items() if _touches(subnet, of_that_kind)), None)
    if special is not None:
        raise Refused(
            f"overlay {name!r} cannot have subnet {subnet}: it overlaps {special}; use one such as 10.64.0.0/16"
        )


def _touches(subnet: Network, others: Iterable[Network]) -> bool:
    return any(share_addresses(subnet, other) for other in others)


def _agent_prefix(name: str, subnet: Network, wanted: int | None) -> int:
    family = family_of(subnet)
    longest = LONGEST_PREFIX[family]
    prefix = wanted if wanted is not None else max(DEFAULT_PREFIX[family], subnet.prefixlen)
    if subnet.prefixlen > longest:
        bare = " (without a mask behind it, as in 10.64.0.0/16, it is that one address)"
        raise Refused(
            f"overlay {name!r}: subnet {subnet} is too small: it must be a /{longest} or larger"
            f"{bare if subnet.num_addresses == 1 else ''}"
        )
    if not subnet.prefixlen <= prefix <= longest:
        raise Refused(
            f"overlay {name!r}: an agent subnet of /{prefix} does not fit {subnet}: "
            f"its prefix must be {subnet.prefixlen} to {longest}"
        )
    return prefix


def check_no_overlap(new: Overlay, known: Iterable[Overlay]) -> None:
    """Raise InUse, naming the other overlay, where two overlays would share addresses."""
    for other in known:
        for mine in new.subnets():
            for theirs in other.subnets():
                if share_addresses(mine, theirs):
                    raise InUse(
                        f"subnet {mine} of overlay {new.name!r} overlaps {theirs} of overlay {other.name!r}: "
                        f"choose a subnet that no overlay uses (`dni overlay ls` lists them)"
                    )


def space_of(overlay: Overlay, family: Family) -> tuple[Network, int]:
    """Answer the subnet and agent prefix of one family; raise Refused where the overlay has none."""
    space = overlay.space(family)
    if space is None:
        raise Refused(f"overlay {overlay.name!r} has no IPv{family} subnet")
    return space


def lowest_free(overlay: Overlay, family: Family, taken: Iterable[Network]) -> Network:
    """Answer the lowest agent subnet that nobody holds, none reserved (as the DC/OS master does)."""
    space = space_of(overlay, family)
    held = {int(network.network_address) for network in taken}
    for candidate in _agent_subnets(*space):
        if int(candidate.network_address) not in held:
            return candidate
    raise full(overlay, family)


def agent_subnet(overlay: Overlay, family: Family, number: int) -> Network:
    """Answer one of an overlay's agent subnets, counted from 0."""
    subnet, prefix = space_of(overlay, family)
    start = subnet.network_address + (number << (subnet.max_prefixlen - prefix))
    return IPv4Network((start, prefix)) if isinstance(start, IPv4Address) else IPv6Network((start, prefix))


def full(overlay: Overlay, family: Family) -> Exhausted:
    """Build the error of an overlay all of whose agent subnets are held."""
    subnet, prefix = space_of(overlay, family)
    number = 1 << (prefix - subnet.prefixlen)
    many = f"all {number} agent subnets of /{prefix} in {subnet} are"
    what = many if number > 1 else f"its one agent subnet {subnet} is"
    return Exhausted(f"overlay {overlay.name!r} is full: {what} held; `dni agent ls` says by which agent")


def _agent_subnets(subnet: Network, prefix: int) -> Iterator[Network]:
    return iter(subnet.subnets(new_prefix=prefix))
