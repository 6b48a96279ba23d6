# SPDX-License-Identifier: Apache-2.0
"""Overlay names, and the names of kernel devices made from overlay names and endpoint ids."""

from __future__ import annotations

import re

from dni_driver.core.errors import BadName, Refused

RESERVED = frozenset({"host", "bridge", "default", "none"})
"""Docker's own network names, and DC/OS's `RESERVED_NETWORKS`."""

LONGEST = 13
"""Linux allows 15 characters for a device; `m-` and `d-` take two."""

VTEP_LINK = "vtep1024"
"""The VXLAN device; the other agents' containers come in here."""

_SHAPE = re.compile(r"[a-z0-9][a-z0-9_-]*")
_CONTAINER_SHAPE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_LINK_DIGITS = 11


def check_overlay_name(name: str) -> str:
    """Answer `name` if an overlay may be called so; raise BadName with the rule it breaks otherwise."""
    if not name:
        raise BadName("an overlay needs a name: 1 to 13 characters of a-z, 0-9, '-' and '_'")
    if name in RESERVED:
        reserved = ", ".join(sorted(RESERVED))
        raise BadName(f"overlay name {name!r} is reserved: {reserved} are Docker's own; choose another")
    if len(name) > LONGEST:
        raise BadName(
            f"overlay name {name!r} has {len(name)} characters, at most {LONGEST} are allowed: "
            f"its bridges are called m-NAME and d-NAME, and Linux allows 15 for a device"
        )
    if "." in name:
        raise BadName(f"overlay name {name!r} has a dot: Mesos cannot inspect such a network; use '-' or '_'")
    if not _SHAPE.fullmatch(name):
        raise BadName(
            f"overlay name {name!r} is not of the form [a-z0-9][a-z0-9_-]*: "
            f"use lower-case letters, digits, '-' and '_', beginning with a letter or digit"
        )
    return name


def check_container_name(name: str) -> str:
    """Answer `name` if Docker lets a container be called so; raise Refused with Docker's rule otherwise."""
    if not _CONTAINER_SHAPE.fullmatch(name):
        raise Refused(
            f"{name[:60]!r} is no container name: use letters, digits, '_', '.' and '-', two characters at the "
            f"least, beginning with a letter or digit"
        )
    return name


def docker_bridge(overlay: str) -> str:
    """Name the bridge that carries an overlay's Docker half."""
    return f"d-{overlay}"


def mesos_bridge(overlay: str) -> str:
    """Name the bridge that carries an overlay's Mesos half."""
    return f"m-{overlay}"


HOST_LINK_PREFIX = "dni"
"""What the host end of every container link begins with."""


def host_link(endpoint: str) -> str:
    """Name the host end of an endpoint's veth pair: `dni` and 11 digits, from the endpoint id alone."""
    return HOST_LINK_PREFIX + endpoint[:_LINK_DIGITS]


def endpoint_digits(host_end: str) -> str:
    """Answer the digits of an endpoint id that the host end of its link has in its name."""
    return host_end.removeprefix(HOST_LINK_PREFIX)


def container_link(endpoint: str) -> str:
    """Name the container end, until libnetwork moves it into the sandbox and renames it."""
    return "dnc" + endpoint[:_LINK_DIGITS]


EGRESS_LINK_PREFIX = "dne"
"""What the name of every device begins with that holds back what a container sends."""


def egress_link(endpoint: str) -> str:
    """Name the device (an ifb) by which what an endpoint sends is held back, where it has a limit."""
    return EGRESS_LINK_PREFIX + endpoint[:_LINK_DIGITS]
