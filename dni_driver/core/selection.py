# SPDX-License-Identifier: Apache-2.0
"""Which pool a RequestPool means (IpamDriver.RequestPool; `docker network create --ipam-driver dni`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network

import msgspec

from dni_driver.core.errors import NotFound, Refused
from dni_driver.core.overlays import (
    AgentSubnet,
    Family,
    Network,
    Overlay,
    check_no_overlap,
    define,
    family_of,
    share_addresses,
)
from dni_driver.core.records import docker_halves, overlay_of_half

OPTIONS = ("overlay", "prefix", "prefix6", "backend")
BACKENDS = ("vxlan", "direct", "auto")


class PoolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What dockerd asks for: `--subnet`, `--ip-range`, `--ipam-opt`, and the family."""

    pool: IPv4Network | IPv6Network | None = None
    ip_range: IPv4Network | IPv6Network | None = None
    options: Mapping[str, str] = {}
    family: Family = 4


class OverlayChosen(msgspec.Struct, frozen=True):
    """An overlay that exists."""

    overlay: Overlay


class OverlayDefined(msgspec.Struct, frozen=True):
    """An overlay to be defined in the whole cluster first."""

    overlay: Overlay


class PlainChosen(msgspec.Struct, frozen=True):
    """A subnet of no overlay: a plain pool for other drivers."""

    subnet: IPv4Network | IPv6Network


Choice = OverlayChosen | OverlayDefined | PlainChosen


def choose_pool(
    request: PoolRequest,
    overlays: Sequence[Overlay],
    agent_subnets: Sequence[AgentSubnet],
    default_overlay: str,
) -> Choice:
    """Find the overlay by `overlay=NAME`, else by `--subnet`, else the default; else a plain pool.

    Raises Refused (NotFound, InUse, BadName) with what to type instead.
    """
    _check_options(request.options)
    if request.ip_range and not request.pool:
        raise Refused("--ip-range needs --subnet: name the overlay's subnet too")
    name = request.options.get("overlay")
    if name is not None:
        return _by_name(name, request, overlays, agent_subnets)
    if request.pool is not None:
        return _by_subnet(request.pool, request, overlays, agent_subnets)
    return OverlayChosen(_known(default_overlay, overlays))


def _check_options(options: Mapping[str, str]) -> None:
    for key in options:
        if key not in OPTIONS:
            raise Refused(f"--ipam-opt {key} is not known to dni: use {', '.join(OPTIONS)}")
    if options.get("backend", "vxlan") not in BACKENDS:
        raise Refused(f"--ipam-opt backend={options['backend']} is not one of {', '.join(BACKENDS)}")
    if "overlay" not in options and options:
        raise Refused(f"--ipam-opt {next(iter(options))} describes a new overlay: add --ipam-opt overlay=NAME")


def _known(name: str, overlays: Sequence[Overlay]) -> Overlay:
    for overlay in overlays:
        if overlay.name == name:
            return overlay
    names = ", ".join(sorted(overlay.name for overlay in overlays)) or "none"
    raise NotFound(
        f"there is no overlay {name!r} (known: {names}); to define it, add --subnet, such as "
        f"--subnet 10.64.0.0/16 --ipam-opt overlay={name}"
    )


def _by_name(
    name: str, request: PoolRequest, overlays: Sequence[Overlay], agent_subnets: Sequence[AgentSubnet]
) -> Choice:
    if name in {overlay.name for overlay in overlays}:
        overlay = _known(name, overlays)
        _check_subnet(overlay, request, agent_subnets)
        _check_definition(overlay, request.options)
        return OverlayChosen(overlay)
    if request.pool is None:
        _known(name, overlays)
    return OverlayDefined(_new_overlay(name, request, overlays))


def _check_subnet(overlay: Overlay, request: PoolRequest, agent_subnets: Sequence[AgentSubnet]) -> None:
    if request.pool is None:
        return
    halves = docker_halves(agent_subnets, overlay.name, request.family)
    if request.pool in overlay.subnets() or request.pool in halves:
        return
    own = " or ".join(str(subnet) for subnet in (*overlay.subnets(), *halves))
    raise Refused(f"overlay {overlay.name!r} exists with other subnets than {request.pool}: use --subnet {own}")


def _check_definition(overlay: Overlay, options: Mapping[str, str]) -> None:
    """Raise Refused where a user describes an overlay otherwise than it is: nobody would tell them else."""
    space4, space6 = overlay.space(4), overlay.space(6)
    has = {
        "prefix": str(space4[1]) if space4 else None,
        "prefix6": str(space6[1]) if space6 else None,
        "backend": overlay.backend,
    }
    for key, value in has.items():
        if options.get(key, value) != value:
            raise Refused(
                f"overlay {overlay.name!r} exists with {key}={value or 'none'}, not {options[key]}: "
                f"leave --ipam-opt {key} out, or define an overlay of another name"
            )


def _new_overlay(name: str, request: PoolRequest, overlays: Sequence[Overlay]) -> Overlay:
    subnets = [request.pool] if request.pool else []
    prefixes = (_number(request.options, "prefix"), _number(request.options, "prefix6"))
    backend = request.options.get("backend", "vxlan")
    overlay = define(name, subnets, prefixes, backend)  # type: ignore[arg-type]  # checked against BACKENDS
    check_no_overlap(overlay, overlays)
    _check_range_in_subnet(request)
    return overlay


def _number(options: Mapping[str, str], key: str) -> int | None:
    text = options.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 3):  # noqa: PLR2004 - 128 has three digits
        raise Refused(f"--ipam-opt {key}={text} is not a number of bits")
    return int(text)


def _by_subnet(
    pool: Network, request: PoolRequest, overlays: Sequence[Overlay], agent_subnets: Sequence[AgentSubnet]
) -> Choice:
    half_owner = overlay_of_half(pool, agent_subnets)
    for overlay in overlays:
        if overlay.name == half_owner or pool in overlay.subnets():
            return OverlayChosen(overlay)
    for overlay in overlays:
        for subnet in overlay.subnets():
            if share_addresses(subnet, pool):
                halves = docker_halves(agent_subnets, overlay.name, family_of(pool))
                usable = " or ".join(str(network) for network in (subnet, *halves))
                raise Refused(
                    f"subnet {pool} lies across overlay {overlay.name!r} ({subnet}): use --subnet {usable} "
                    f"for that overlay, or a subnet that no overlay uses"
                )
    _check_plain(pool, request)
    return PlainChosen(pool)


def _check_plain(pool: Network, request: PoolRequest) -> None:
    _check_range_in_subnet(request)
    smallest = 30 if family_of(pool) == 4 else 126  # noqa: PLR2004
    if pool.prefixlen > smallest:
        raise Refused(f"subnet {pool} has no room for a gateway and a container: use /{smallest} or larger")


def _check_range_in_subnet(request: PoolRequest) -> None:
    if request.ip_range and request.pool and not _inside(request.ip_range, request.pool):
        raise Refused(f"--ip-range {request.ip_range} lies outside --subnet {request.pool}")


def check_range(ip_range: Network | None, overlay: str, halves: Sequence[Network]) -> None:
    """Raise Refused unless `--ip-range` lies in a Docker half this agent holds."""
    if ip_range is None or any(_inside(ip_range, half) for half in halves):
        return
    usable = " or ".join(str(half) for half in halves)
    raise Refused(
        f"--ip-range {ip_range} lies outside this agent's Docker half of overlay {overlay!r}: "
        f"choose a range inside {usable}"
    )


def _inside(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)
