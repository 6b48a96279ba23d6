# SPDX-License-Identifier: Apache-2.0
"""What a container's Docker labels `dni.…` say: limits, for those who cannot give it driver-opts."""

from __future__ import annotations

from collections.abc import Mapping

from dni_driver.core.errors import Refused
from dni_driver.core.options.bandwidth import parse_rate

PREFIX = "dni."
_LIMITS = ("egress", "ingress")
_TOO_LATE = ("address", "address6")


def ours(labels: Mapping[str, str]) -> dict[str, str]:
    """Answer those that are for dni."""
    return {key: value for key, value in labels.items() if key.startswith(PREFIX)}


def limits_of(labels: Mapping[str, str]) -> dict[str, int]:
    """Answer `egress` and `ingress` in bits a second, as far as they are given; raise Refused for any other label."""
    return {_limit(key): parse_rate(_limit(key), value) for key, value in ours(labels).items()}


def _limit(key: str) -> str:
    name = key.removeprefix(PREFIX)
    if name in _TOO_LATE:
        raise Refused(f"label {key} comes too late, labels are read when a container runs: use --ip or a driver-opt")
    if name not in _LIMITS:
        raise Refused(f"label {key[:40]!r} is not known to dni: use {', '.join(PREFIX + one for one in _LIMITS)}")
    return name
