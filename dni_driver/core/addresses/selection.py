# SPDX-License-Identifier: Apache-2.0
"""Which pool a RequestPool means (IpamDriver.RequestPool; `docker network create --ipam-driver dni`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network

import msgspec

from dni_driver.core.errors import NotFound, Refused
from dni_driver.core.overlays import (
    Family,
    Network,
    Overlay,
    check_no_overlap,
    define,
    family_of,
    share_addresses,
)
from dni_driver.core.records import Held, PoolRecord, docker_halves, overlay_of_half

OPTIONS = ("overlay", "prefix", "prefix6", "backend")
BACKENDS = ("vxlan", "direct", "auto")


class PoolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What dockerd asks for: `--subnet`, `--ip-range`, `--ipam-opt`, and the family."""

    pool: IPv4Network | IPv6Network | None = None
    ip_range: IPv4Network | IPv6Network | None = None
    options: Mapping[str, str] = {}
    family: Family = 4


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to choose from: the overlays, what this agent holds of them, and the name of the default one.

    `on_trial` are those that were defined for a network whose creation is under way.
    """

    overlays: Sequence[Overlay]
    held: Sequence[Held]
    default: str
    on_trial: Collection[str] = ()


class OverlayChosen(msgspec.Struct, frozen=True):
    """An overlay that exists."""

    overlay: Overlay


class OverlayDefined(msgspec.Struct, frozen=True):
    """An overlay to be defined in the whole cluster first, or to be given the family that it lacks there."""

    overlay: Overlay


class PlainChosen(msgspec.Struct, frozen=True):
    """A subnet of no overlay: a plain pool for other drivers."""

    subnet: IPv4Network | IPv6Network


Choice = OverlayChosen | OverlayDefined | PlainChosen


def choose_pool(request: PoolRequest, known: Known) -> Choice:
    """Find the overlay by `overlay=NAME`, else by `--subnet`, else the default; else a plain pool.

    Raises Refused (NotFound, InUse, BadName) with what to type instead.
    """
    _check_options(request.options)
    if request.ip_range and not request.pool:
        raise Refused("--ip-range needs --subnet: name the overlay's subnet too")
    name = request.options.get("overlay")
    if name is not None:
        return _by_name(name, request, known)
    if request.pool is not None:
        return _by_subnet(request.pool, request, known)
    overlay = _find(known.default, known.overlays)
    _check_family(overlay, request)
    return OverlayChosen(overlay)


def under_way(pools: Iterable[PoolRecord], taken: Collection[str], now: float) -> str | None:
    """Answer the overlay whose IPv4 half a network asked for that is being created; its IPv6 half comes next.

    `taken` are the overlays that have their network. Of several creations at a time the last is meant: what this
    gets wrong is refused when the network itself is created.
    """
    wanted = [pool for pool in pools if pool.overlay is not None and pool.is_wanted(now)]
    complete = {pool.overlay for pool in wanted if pool.family == 6}  # noqa: PLR2004
    begun = [pool for pool in wanted if pool.overlay not in complete and pool.overlay not in taken]
    return max(begun, key=lambda pool: pool.since).overlay if begun else None


def _check_options(options: Mapping[str, str]) -> None:
    for key in options:
        if key not in OPTIONS:
            raise Refused(f"--ipam-opt {key} is not known to dni: use {', '.join(OPTIONS)}")
    if options.get("backend", "vxlan") not in BACKENDS:
        raise Refused(f"--ipam-opt backend={options['backend']} is not one of {', '.join(BACKENDS)}")
    if "overlay" not in options and options:
        raise Refused(f"--ipam-opt {next(iter(options))} describes a new overlay: add --ipam-opt overlay=NAME")


def _check_family(overlay: Overlay, request: PoolRequest) -> None:
    """Raise Refused where an overlay does not speak what is asked for; IPv4 without a subnet can be had beside it."""
    if overlay.space(request.family) is None and (request.family == 6 or request.pool is not None):  # noqa: PLR2004
        wrong = f"--subnet {request.pool}" if request.pool else "--ipv6"
        raise Refused(
            f"overlay {overlay.name!r} has no IPv{request.family} subnet, and cannot be given one: leave {wrong} "
            f"out, or define an overlay that has both (`dni overlay create NAME --subnet CIDR --subnet6 CIDR`)"
        )


def _find(name: str, overlays: Sequence[Overlay]) -> Overlay:
    for overlay in overlays:
        if overlay.name == name:
            return overlay
    names = ", ".join(sorted(overlay.name for overlay in overlays)) or "none"
    raise NotFound(
        f"there is no overlay {name!r} (known: {names}); to define it, add --subnet, such as "
        f"--subnet 10.64.0.0/16 --ipam-opt overlay={name}, or use `dni overlay create {name}`, also for one that "
        f"speaks IPv6 alone"
    )


def _by_name(name: str, request: PoolRequest, known: Known) -> Choice:
    if request.pool is not None and name not in {overlay.name for overlay in known.overlays}:
        return OverlayDefined(_new_overlay(name, request, known.overlays))
    overlay = _find(name, known.overlays)
    if request.pool is not None and name in known.on_trial and overlay.space(request.family) is None:
        return OverlayDefined(_widened(overlay, request.pool, request, known.overlays))
    halves = docker_halves(known.held, name, request.family)
    if request.pool not in halves:
        _check_family(overlay, request)
        _check_subnet(overlay, request, halves)
    _check_definition(overlay, request.options)
    return OverlayChosen(overlay)


def _check_subnet(overlay: Overlay, request: PoolRequest, halves: Sequence[Network]) -> None:
    if request.pool is None or request.pool in overlay.subnets():
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


def _widened(overlay: Overlay, pool: Network, request: PoolRequest, overlays: Sequence[Overlay]) -> Overlay:
    """Answer an overlay with the family that it lacks: dockerd asks for one `--subnet` after the other."""
    prefixes = (
        overlay.prefix or _number(request.options, "prefix"),
        overlay.prefix6 or _number(request.options, "prefix6"),
    )
    wide = define(overlay.name, [*overlay.subnets(), pool], prefixes, overlay.backend)
    check_no_overlap(wide, [other for other in overlays if other.name != overlay.name])
    _check_range_in_subnet(request)
    return wide


def _number(options: Mapping[str, str], key: str) -> int | None:
    text = options.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 3):  # noqa: PLR2004 - 128 has three digits
        raise Refused(f"--ipam-opt {key}={text} is not a number of bits")
    return int(text)


def _by_subnet(pool: Network, request: PoolRequest, known: Known) -> Choice:
    half_owner = overlay_of_half(pool, known.held)
    for overlay in known.overlays:
        if overlay.name == half_owner or pool in overlay.subnets():
            return OverlayChosen(overlay)
    for overlay in known.overlays:
        for subnet in overlay.subnets():
            if share_addresses(subnet, pool):
                halves = docker_halves(known.held, overlay.name, family_of(pool))
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
