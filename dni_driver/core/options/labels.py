# SPDX-License-Identifier: Apache-2.0
"""What a container's labels `dni.…` say: limits and groups, for those who cannot give it driver-opts."""

from __future__ import annotations

from collections.abc import Mapping

from dni_driver.core.errors import Refused
from dni_driver.core.options.endpoint import EndpointOptions, read_lasting

PREFIX = "dni."
LIMITS = ("egress", "ingress")
KNOWN = (*LIMITS, "groups")
_TOO_LATE = ("address", "address6")


def ours(labels: Mapping[str, str]) -> dict[str, str]:
    """Answer those that are for dni."""
    return {key: value for key, value in labels.items() if key.startswith(PREFIX)}


def options_of(labels: Mapping[str, str]) -> EndpointOptions:
    """Answer what they ask for, KNOWN as far as they are given; raise Refused for any other label of dni."""
    return read_lasting({_name(key): value for key, value in ours(labels).items()})


def _name(key: str) -> str:
    name = key.removeprefix(PREFIX)
    if name in _TOO_LATE:
        raise Refused(
            f"label {key} comes too late, labels are read when a container runs: use --ip or a driver-opt; of Mesos' "
            f"own containers ip_addresses in NetworkInfo"
        )
    if name not in KNOWN:
        raise Refused(f"label {key[:40]!r} is not known to dni: use {', '.join(PREFIX + one for one in KNOWN)}")
    return name
