# SPDX-License-Identifier: Apache-2.0
"""The nftables table `inet dni`: who may talk to an overlay's containers, and what is masqueraded.

It stands before everybody else's filter rules (priority filter - 1) and only ever drops: what it lets pass may
still be dropped behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dni_driver.core.overlays import FAMILIES, Family, Network
from dni_driver.core.wanted import Policy, Wanted

TABLE = "inet dni"
VTEP = "vtep1024"
"""The other agents' containers come in here; the next hop of VXLAN routes."""

_SADDR = {4: "ip saddr", 6: "ip6 saddr"}
_DADDR = {4: "ip daddr", 6: "ip6 daddr"}
_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}


def ruleset(wanted: Wanted) -> str:
    """Answer what to feed `nft -f -`: the whole table anew in one transaction, or its removal."""
    replaced = f"add table {TABLE}\ndelete table {TABLE}\n"
    if not wanted.policies:
        return replaced
    blocks = [*_sets(wanted), _forward(wanted.policies), *_entrances(wanted.policies), *_exits(wanted.policies)]
    blocks += [_postrouting(wanted.policies)]
    return f"{replaced}table {TABLE} {{\n" + "\n".join(blocks) + "}\n"


def _sets(wanted: Wanted) -> list[str]:
    bridges = [bridge for policy in wanted.policies for bridge in policy.bridges]
    found = [_set("bridges", "ifname", "", _quoted(bridges))]
    for family in FAMILIES:
        found += _subnets(f"overlays{family}", family, [*wanted.overlay_subnets, *_of_policies(wanted.policies)])
        found += _subnets(f"hidden{family}", family, _hidden(wanted.policies))
    return found


def _hidden(policies: Iterable[Policy]) -> list[Network]:
    """Answer what is masqueraded when it leaves for elsewhere: to local subnets there is no way back from there."""
    ways_out = [policy for policy in policies if not policy.internal]
    return [
        subnet for policy in ways_out for subnet in (*(policy.subnets if policy.masquerade else ()), *policy.local)
    ]


def _of_policies(policies: Iterable[Policy]) -> list[Network]:
    return [subnet for policy in policies for subnet in policy.subnets]


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


def _forward(policies: Sequence[Policy]) -> str:
    exits = _map("iifname", "from", [policy for policy in policies if policy.internal])
    entrances = _map("oifname", "to", [policy for policy in policies if _is_guarded(policy)])
    return _chain("forward", "type filter hook forward priority filter - 1; policy accept;", *exits, *entrances)


def _is_guarded(policy: Policy) -> bool:
    return policy.isolated or policy.internal


def _map(key: str, prefix: str, policies: Sequence[Policy]) -> list[str]:
    jumps = [f'"{bridge}" : jump {prefix}-{policy.overlay}' for policy in policies for bridge in policy.bridges]
    return [f"{key} vmap {_braced(jumps)}"] if jumps else []


def _entrances(policies: Iterable[Policy]) -> list[str]:
    """Render for each guarded overlay who comes in: itself, here or from another agent, replies, published ports."""
    return [
        _chain(f"to-{policy.overlay}", *_kin("iifname", _SADDR, "accept", policy), *_guests(policy), "drop")
        for policy in policies
        if _is_guarded(policy)
    ]


def _guests(policy: Policy) -> list[str]:
    return [] if policy.internal else ["ct state established,related accept", "ct status dnat accept"]


def _exits(policies: Iterable[Policy]) -> list[str]:
    """Render for each internal overlay where its containers get to: itself; its entrance decides on."""
    return [
        _chain(f"from-{policy.overlay}", *_kin("oifname", _DADDR, "return", policy), "drop")
        for policy in policies
        if policy.internal
    ]


def _kin(link: str, address: dict[int, str], verdict: str, policy: Policy) -> list[str]:
    remote = [
        f'{link} "{VTEP}" {address[family]} {_braced(members)} {verdict}'
        for family in FAMILIES
        if (members := _family(policy.subnets, family))
    ]
    return [f"{link} {_braced(_quoted(policy.bridges))} {verdict}", *remote]


def _postrouting(policies: Sequence[Policy]) -> str:
    hidden = _hidden(policies)
    rules = [
        f"{_SADDR[family]} @hidden{family} {_DADDR[family]} != @overlays{family} oifname != @bridges masquerade"
        for family in FAMILIES
        if _family(hidden, family)
    ]
    return _chain("postrouting", "type nat hook postrouting priority srcnat; policy accept;", *rules)
