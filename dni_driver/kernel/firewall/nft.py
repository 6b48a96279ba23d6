# SPDX-License-Identifier: Apache-2.0
"""The nftables table `inet dni`: who may talk to an overlay's containers, and what is masqueraded.

It stands before everybody else's filter rules (priority filter - 1) and only ever drops: what it lets pass may
still be dropped behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from types import MappingProxyType

import msgspec

from dni_driver.core.data_plane.entries import Entries, Kind
from dni_driver.core.names import VTEP_LINK
from dni_driver.core.overlays import FAMILIES, Address, Family, Network, family_of
from dni_driver.core.peers import VTEP_SUBNET6, VXLAN_PORT
from dni_driver.core.wanted import Policy, Wanted
from dni_driver.kernel.netlink.nfnetlink import Table

TABLE = "inet dni"
INET = Table(family=1, name="dni")
"""The same, as the kernel counts families."""
GUEST_SETS: Mapping[tuple[Kind, Family], str] = {
    ("guest subnet", 4): "peer-subnets",
    ("guest agent", 4): "peer-agents",
    ("guest subnet", 6): "peer-subnets6",
    ("guest agent", 6): "peer-agents6",
}
"""Who comes in from the underlay: agent subnets of other agents, each by its first address, and their agent IPs.

Those of IPv6 are there where agents have IPv6 addresses.
"""
GUESTS: frozenset[Kind] = frozenset(kind for kind, _ in GUEST_SETS)
_NO_GUESTS: Entries = MappingProxyType({})

_SADDR = {4: "ip saddr", 6: "ip6 saddr"}
_DADDR = {4: "ip daddr", 6: "ip6 daddr"}
_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}


class Uplink(msgspec.Struct, frozen=True, kw_only=True):
    """The link by which other agents on it come directly, and the masks of all agent subnets.

    The masks are by overlay and family, of the families that come so.
    """

    link: str
    families: tuple[Family, ...]
    masks: dict[tuple[str, Family], Address]


def is_needed(wanted: Wanted) -> bool:
    """Tell whether there is anything to decide."""
    return bool(wanted.policies) or wanted.vtep is not None


def ruleset(wanted: Wanted, underlay: str | None = None, guests: Entries = _NO_GUESTS) -> str:
    """Answer what to feed `nft -f -`: the whole table anew in one transaction, or its removal.

    `underlay` is the link by which other agents on it come directly, None where this one is alone; `guests` are
    those.
    """
    replaced = f"add table {TABLE}\ndelete table {TABLE}\n"
    if not is_needed(wanted):
        return replaced
    uplink = _uplink(wanted, underlay)
    blocks = [*_sets(wanted), *(_guest_sets(guests, uplink.families) if uplink else ())]
    blocks += [_forward(wanted, uplink), *_entrances(wanted, uplink), *_exits(wanted.policies, uplink)]
    if wanted.policies:
        blocks += [*_tunnel(wanted), _postrouting(wanted)]
    return f"{replaced}table {TABLE} {{\n" + "\n".join(blocks) + "}\n"


def _uplink(wanted: Wanted, underlay: str | None) -> Uplink | None:
    if wanted.vtep is None or underlay is None:
        return None
    families = FAMILIES if wanted.agent and wanted.agent.version == 6 else FAMILIES[:1]  # noqa: PLR2004
    masks = {
        (overlay.name, family): ip_network((space[0].network_address, space[1])).netmask
        for overlay in wanted.overlays
        for family in families
        if (space := overlay.space(family))
    }
    return Uplink(link=underlay, families=families, masks=masks)


def _sets(wanted: Wanted) -> list[str]:
    bridges = [bridge for policy in wanted.policies for bridge in (*policy.bridges, *policy.admitted)]
    found = [_set("bridges", "ifname", "", _quoted(bridges))] if bridges else []
    for family in FAMILIES:
        found += _subnets(f"overlays{family}", family, _of_overlays(wanted))
        found += _subnets(f"hidden{family}", family, _hidden(wanted.policies))
    return found


def guest_set(kind: Kind, of: str) -> str:
    """Answer the set that a guest is an element of."""
    return GUEST_SETS[kind, family_of(ip_address(of))]


def _guest_sets(guests: Entries, families: Iterable[Family]) -> list[str]:
    known: dict[str, list[str]] = {}
    for kind, of in guests:
        known.setdefault(guest_set(kind, of), []).append(of)
    return [
        _bare_set(name, _TYPE[family], known.get(name, []))
        for (_, family), name in GUEST_SETS.items()
        if family in families
    ]


def _bare_set(name: str, kind: str, members: Sequence[str]) -> str:
    return _set(name, kind, "", members) if members else f"\tset {name} {{ type {kind}; }}\n"


def _hidden(policies: Iterable[Policy]) -> list[Network]:
    """Answer what is masqueraded when it leaves for elsewhere: to local subnets there is no way back from there."""
    ways_out = [policy for policy in policies if not policy.internal]
    return [
        subnet for policy in ways_out for subnet in (*(policy.subnets if policy.masquerade else ()), *policy.local)
    ]


def _of_overlays(wanted: Wanted) -> list[Network]:
    return [*wanted.overlay_subnets, *(subnet for policy in wanted.policies for subnet in policy.subnets)]


def _subnets(name: str, family: Family, subnets: Iterable[Network]) -> list[str]:
    members = _family(subnets, family)
    return [_set(name, _TYPE[family], "flags interval; auto-merge; ", members)] if members else []


def _family(subnets: Iterable[Network], family: Family) -> list[str]:
    return [str(subnet) for subnet in dict.fromkeys(subnets) if subnet.version == family]


def _set(name: str, kind: str, flags: str, members: Sequence[str]) -> str:
    return f"\tset {name} {{ type {kind}; {flags}elements = {_braced(members)}; }}\n"


def _quoted(names: Iterable[str]) -> list[str]:
    return [f'"{name}"' for name in names]


def _braced(members: Iterable[str]) -> str:
    return f"{{ {', '.join(members)} }}"


def _chain(name: str, *lines: str) -> str:
    return f"\tchain {name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def _forward(wanted: Wanted, uplink: Uplink | None) -> str:
    """Render who gets through; what belongs to a connection does so at once, but for internal networks."""
    internal = [policy for policy in wanted.policies if policy.internal]
    isolated = [policy for policy in wanted.policies if policy.isolated and not policy.internal]
    head = "type filter hook forward priority filter - 1; policy accept;"
    shut = (*_map("iifname", "from", internal), *_map("oifname", "to", internal))
    closed = [*(_departures(wanted, uplink) if uplink else ()), *_map("oifname", "to", isolated)]
    replies = ["ct state established,related accept"] if closed else []
    return _chain("forward", head, *shut, *replies, *closed)


def _departures(wanted: Wanted, uplink: Uplink) -> Iterator[str]:
    """Keep strangers from the containers of other agents: masqueraded or forged, they pass for who may come in.

    Who writes an overlay's address is told by where he comes in, as anybody can write one: nobody but an overlay's
    bridge sends that. What crosses from the underlay to itself, over a bridge for one, is other agents' affair.
    """
    opened = {subnet for policy in wanted.policies if not _is_guarded(policy) for subnet in policy.subnets}
    guarded = [subnet for subnet in wanted.overlay_subnets if subnet not in opened]
    links = _braced(_quoted([VTEP_LINK, uplink.link]))
    elsewhere = "iifname != @bridges " if wanted.policies else ""
    for family in FAMILIES:
        members = _family(guarded, family)
        if members:
            to = f"{_DADDR[family]} {_braced(members)}"
            forged = f"{elsewhere}{_SADDR[family]} @overlays{family} {to} ct state invalid,new drop"
            yield f'oifname "{VTEP_LINK}" {forged}'
            yield f'oifname "{uplink.link}" iifname != "{uplink.link}" {forged}'
            yield f"oifname {links} {_SADDR[family]} != @overlays{family} {to} ct state new drop"


def _tunnel(wanted: Wanted) -> list[str]:
    """Render what keeps containers from sending VXLAN themselves, by which they would get past every entrance.

    Agents listen for it at all their addresses. Within overlays, and to answer to, that port is as good as any.
    What agents send each other, which is most of it, is let through by a few look-ups.
    """
    spoken = _spoken(wanted)
    outside = [
        f"{_DADDR[family]} != @overlays{family}" if family in spoken else f"meta nfproto ipv{family}"
        for family in FAMILIES
    ]
    return [
        _chain(
            "disguised",
            "ct state established,related return",
            *(f"iifname @bridges {elsewhere} drop" for elsewhere in outside),
            "iifname @bridges fib daddr type local drop",
            *(f"{_SADDR[family]} @overlays{family} fib daddr type local drop" for family in spoken),
        ),
        _chain(
            "suspects",
            "iifname @bridges goto disguised",
            *(f"{_SADDR[family]} @overlays{family} goto disguised" for family in spoken),
        ),
        _chain(
            "tunnel",
            "type filter hook prerouting priority filter - 1; policy accept;",
            f"udp dport {VXLAN_PORT} jump suspects",
        ),
    ]


def _spoken(wanted: Wanted) -> list[Family]:
    """Answer the families of overlays: of another one there is no set, though local subnets may be of it."""
    known = _of_overlays(wanted)
    return [family for family in FAMILIES if _family(known, family)]


def _is_guarded(policy: Policy) -> bool:
    return policy.isolated or policy.internal


def _map(key: str, prefix: str, policies: Sequence[Policy]) -> list[str]:
    jumps = [f'"{bridge}" : jump {prefix}-{policy.overlay}' for policy in policies for bridge in policy.bridges]
    return [f"{key} vmap {_braced(jumps)}"] if jumps else []


def _entrances(wanted: Wanted, uplink: Uplink | None) -> list[str]:
    """Render for each guarded overlay who comes in: itself, here or from another agent, replies, published ports."""
    return [
        _chain(
            f"to-{policy.overlay}",
            *_kin("iifname", _SADDR, "accept", policy, uplink),
            *_guests(policy, wanted, uplink),
            "drop",
        )
        for policy in wanted.policies
        if _is_guarded(policy)
    ]


def _guests(policy: Policy, wanted: Wanted, uplink: Uplink | None) -> list[str]:
    """Render that published ports and, for health checks, the other agents come in; replies have come in before."""
    if policy.internal:
        return []
    by_vtep = _by_vtep(wanted.vtep_subnet) if uplink or wanted.hosted else ()
    return ["ct status dnat accept", *by_vtep, *_agents(uplink)]


def _agents(uplink: Uplink | None) -> Iterator[str]:
    if uplink is None:
        return
    for family in uplink.families:
        yield f'iifname "{uplink.link}" {_SADDR[family]} @{GUEST_SETS["guest agent", family]} accept'


def _by_vtep(vteps: Network) -> Iterator[str]:
    for subnet in (vteps, VTEP_SUBNET6):
        yield f'iifname "{VTEP_LINK}" {_SADDR[subnet.version]} {subnet} accept'


def _exits(policies: Iterable[Policy], uplink: Uplink | None) -> list[str]:
    """Render for each internal overlay where its containers get to: itself; its entrance decides on."""
    return [
        _chain(f"from-{policy.overlay}", *_kin("oifname", _DADDR, "return", policy, uplink), "drop")
        for policy in policies
        if policy.internal
    ]


def _kin(link: str, address: dict[int, str], verdict: str, policy: Policy, uplink: Uplink | None) -> list[str]:
    remote = [
        f'{link} "{VTEP_LINK}" {address[family]} {_braced(members)} {verdict}'
        for family in FAMILIES
        if (members := _family(policy.subnets, family))
    ]
    direct = _direct(link, address, policy, uplink) if uplink else ()
    return [
        f"{link} {_braced(_quoted((*policy.bridges, *policy.admitted)))} {verdict}",
        *remote,
        *(f"{match} {verdict}" for match in direct),
    ]


def _direct(link: str, address: dict[int, str], policy: Policy, uplink: Uplink) -> Iterator[str]:
    """Render what comes from, or goes to, containers of agents on the underlay itself."""
    for family in uplink.families:
        members, mask = _family(policy.subnets, family), uplink.masks.get((policy.overlay, family))
        if members and mask is not None:
            known = f"{address[family]} & {mask} @{GUEST_SETS['guest subnet', family]}"
            yield f'{link} "{uplink.link}" {address[family]} {_braced(members)} {known}'


def _postrouting(wanted: Wanted) -> str:
    hidden, spoken = _hidden(wanted.policies), _spoken(wanted)
    elsewhere = {family: f" {_DADDR[family]} != @overlays{family}" if family in spoken else "" for family in FAMILIES}
    rules = [
        f"{_SADDR[family]} @hidden{family}{elsewhere[family]} oifname != @bridges masquerade"
        for family in FAMILIES
        if _family(hidden, family)
    ]
    return _chain("postrouting", "type nat hook postrouting priority srcnat; policy accept;", *rules)
