# SPDX-License-Identifier: Apache-2.0
"""Which addresses the CNI plugin host-local has handed out: one file for each, named after it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path

from dni_driver.core.errors import Unavailable
from dni_driver.core.overlays import Address

DATA_DIRECTORIES = (Path("/var/lib/cni/networks"), Path("/var/run/dcos/cni/networks"))
"""host-local's own default, and what DC/OS tells it."""


def occupied(overlay: str, directories: Iterable[Path] = DATA_DIRECTORIES) -> set[Address]:
    """Answer the addresses handed out on an overlay; raise Unavailable where a directory cannot be read."""
    return {address for directory in directories for address in _handed_out(directory / overlay)}


def _handed_out(directory: Path) -> Iterator[Address]:
    try:
        with os.scandir(directory) as entries:
            yield from (address for entry in entries if (address := _address(entry)) is not None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(
            f"the Mesos half cannot be counted: {directory} cannot be read ({error.strerror or error})"
        ) from None


def _address(entry: os.DirEntry[str]) -> Address | None:
    """Answer which address a file stands for; what else lies there (`lock`, `last_reserved_ip.0`) stands for none."""
    try:
        address = ip_address(entry.name)
    except ValueError:
        return None
    return address if entry.is_file(follow_symlinks=False) else None
