# SPDX-License-Identifier: Apache-2.0
"""Docker Engine versions: what is different there for dni's users, and which are to be avoided."""

from __future__ import annotations

import re

import msgspec

OLDEST = (20, 10)
"""The oldest engine that dni is tried on."""

Version = tuple[int, ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that holds from one version on and until before another; both may be open (None)."""

    since: Version | None = None
    until: Version | None = None
    text: str


DIFFERENCES = (
    Difference(until=(25,), text="`docker network create` through the API may make two networks of one name"),
    Difference(until=(28,), text="`--ipv4=false` is not known: an IPv6-only network has an IPv4 pool too"),
    Difference(until=(27,), text="`--ipv6` needs `--subnet` with the overlay's IPv6 subnet"),
    Difference(
        until=(28, 1),
        text="endpoints can be miscounted when many containers start at once: `network rm` then says `has active "
        "endpoints` until dockerd is restarted",
    ),
    Difference(
        until=(28,),
        text="a container on several networks leaves by the first of their names; from 28 on --gw-priority chooses",
    ),
    Difference(since=(29,), text="the IPAM driver is told container names; nftables can be Docker's own firewall"),
)
"""For people, in `dni doctor`: none of it needs mending."""

TRAPS = (
    Difference(
        since=(29, 0, 0),
        until=(29, 0, 2),
        text="a container on a network without a gateway cannot be connected to one that has one",
    ),
)
"""Faults of single releases (moby issue 51522)."""


def parsed(text: str) -> Version | None:
    """Read a version such as `20.10.24+dfsg1`; None where it is none."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in found.groups(default="0")) if found else None


def that_apply(version: Version, known: tuple[Difference, ...]) -> list[str]:
    """Answer in words what of a table holds for a version."""
    return [one.text for one in known if _applies(version, one)]


def _applies(version: Version, one: Difference) -> bool:
    return (one.since is None or version >= one.since) and (one.until is None or version < one.until)
