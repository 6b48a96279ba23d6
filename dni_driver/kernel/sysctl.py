# SPDX-License-Identifier: Apache-2.0
"""Kernel settings under /proc/sys/net, of the calling thread's network namespace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import structlog

from dni_driver.core.errors import KernelError
from dni_driver.kernel import routes

_ROOT = Path("/proc/sys/net")
_FORWARDING = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
_ACCEPT_ALWAYS = "2"

_log = structlog.get_logger()


def read(key: str) -> str | None:
    """Answer a setting; None where this kernel has none of that name (no IPv6, for one)."""
    try:
        return (_ROOT / key).read_text().strip()
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
    """Have this host forward packets of these families (4, 6); answer the settings that were switched on."""
    off = [key for family in sorted(set(families)) if read(key := _FORWARDING[family]) == "0"]
    for key in off:
        if key == _FORWARDING[6]:
            _go_on_listening(routes.advertised_uplinks())
        write(key, "1")
    return [_dotted(key) for key in off]


def _dotted(key: str) -> str:
    return f"net.{key.replace('/', '.')}"


def _go_on_listening(uplinks: Iterable[str]) -> None:
    """Have links that learned their default route from router advertisements keep it: forwarding would end that."""
    for uplink in uplinks:
        if ensure(f"ipv6/conf/{uplink}/accept_ra", _ACCEPT_ALWAYS):
            _log.info("router advertisements still heard", link=uplink)
