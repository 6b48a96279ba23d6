# SPDX-License-Identifier: Apache-2.0
"""What CNI's host-local plugin has handed out: a file for each address, called like it, with its container inside."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from dni_driver.core.cni_conf import DATA_DIRECTORY
from dni_driver.core.overlays import Address
from dni_driver.core.records import ReservationRecord

DIRECTORIES = (Path(DATA_DIRECTORY), Path("/var/lib/cni/networks"))
"""Where DC/OS has it keep its files, and where it keeps them by itself."""


def held(overlay: str, directories: tuple[Path, ...] = DIRECTORIES) -> list[ReservationRecord]:
    """Answer what host-local holds of a network of that name, as addresses that nobody else may have."""
    found = {address: None for directory in directories for address in _addresses(directory / overlay)}
    return [ReservationRecord(overlay=overlay, first=address, last=address) for address in found]


def _addresses(directory: Path) -> Iterator[Address]:
    """Read the names of files; `lock` and `last_reserved_ip.0` are none of addresses."""
    try:
        names = [entry.name for entry in directory.iterdir()]
    except OSError:
        return
    for name in names:
        try:
            yield ip_address(name.replace("_", ":"))
        except ValueError:
            continue
