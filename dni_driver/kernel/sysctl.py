# SPDX-License-Identifier: Apache-2.0
"""Kernel settings under /proc/sys/net, of the calling thread's network namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from dni_driver.core.errors import KernelError
from dni_driver.kernel import routes

_ROOT = Path("/proc/sys/net")
_FORWARDING = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
_DYNAMIC_PORTS = "ipv4/ip_local_port_range"
_USUAL_PORTS = range(49153, 65536)
_IPV6_OFF = "ipv6/conf/all/disable_ipv6"
_HEARD_BY_HOSTS, _HEARD_BY_ROUTERS = "1", "2"
"""Of accept_ra; at 0, whoever manages the link listens in the kernel's place."""


def read(key: str) -> str | None:
    """Answer a setting; None where this kernel has none of that name (no IPv6, for one)."""
    try:
        with open(f"{_ROOT}/{key}", "rb", buffering=0) as setting:  # noqa: PTH123 - a start waits: this is the quickest
            return setting.read().decode().strip()
    except FileNotFoundError:
        return None


def write(key: str, value: str) -> None:
    """Set a setting; raise KernelError where that is not allowed."""
    try:
        (_ROOT / key).write_text(value)
    except OSError as error:
        name = _dotted(key)
        raise KernelError(f"{name} cannot be set to {value}: {error.strerror}; `sysctl -w {name}={value}`") from error


def ensure(key: str, value: str) -> bool:
    """Set a setting that the kernel has unless it is so; tell whether that changed it."""
    if read(key) in (value, None):
        return False
    write(key, value)
    return True


def ensure_forwarding(families: Iterable[int]) -> list[str]:
    """Have this host forward packets of these families (4, 6); answer in words what was changed."""
    changes: list[str] = []
    for key in (_FORWARDING[family] for family in sorted(set(families))):
        if read(key) == "0":
            if key == _FORWARDING[6]:
                changes += _go_on_listening(routes.advertised_uplinks())
            write(key, "1")
            changes.append(f"{_dotted(key)} switched on")
    return changes


def has_ipv6() -> bool:
    """Tell whether this kernel was loaded with IPv6."""
    return read(_IPV6_OFF) is not None


def dynamic_ports() -> range:
    """Answer the ports that this host gives to whoever names none."""
    words = (read(_DYNAMIC_PORTS) or "").split()
    return range(int(words[0]), int(words[1]) + 1) if len(words) == 2 else _USUAL_PORTS  # noqa: PLR2004


def ipv6_fault() -> str | None:
    """Say why this host speaks no IPv6, and what changes that; None where it does."""
    off = read(_IPV6_OFF)
    if off is None:
        return "its kernel was loaded without it: `modprobe ipv6`, or boot without ipv6.disable=1"
    name = _dotted(_IPV6_OFF)
    return f"{name} is {off}: `sysctl -w {name}=0`" if off != "0" else None


def _dotted(key: str) -> str:
    return f"net.{key.replace('/', '.')}"


def _go_on_listening(uplinks: Iterable[str]) -> Iterator[str]:
    """Have links that learned their default route from router advertisements keep it: forwarding would end that."""
    for uplink in uplinks:
        key = f"ipv6/conf/{uplink}/accept_ra"
        if read(key) == _HEARD_BY_HOSTS:
            write(key, _HEARD_BY_ROUTERS)
            yield f"{_dotted(key)} set to {_HEARD_BY_ROUTERS}: {uplink} goes on hearing its router"
