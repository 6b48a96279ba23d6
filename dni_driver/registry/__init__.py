# SPDX-License-Identifier: Apache-2.0
"""Where the cluster records its overlays, and which agent holds which agent subnet.

One interface; `local` keeps it in a file, for a cluster of one host; `mesos` reads what a Mesos agent says.
"""

from __future__ import annotations

from pathlib import Path

from dni_driver.core.errors import Refused, SettingsError
from dni_driver.core.mesos_address import ALLOWED, read_mesos_address
from dni_driver.registry.interface import Lease, Registry
from dni_driver.registry.local import LocalRegistry
from dni_driver.registry.mesos import MesosRegistry
from dni_driver.registry.mesos_agent import MesosAgent

__all__ = ["Lease", "Registry", "open_registry"]


def open_registry(url: str, directory: Path, token_file: Path | None = None) -> Registry:
    """Open the registry that the settings name; `directory` is where a local one keeps its file.

    `token_file` holds what a Mesos agent wants to see.

    Raises SettingsError for an unknown one, StoreError where the file cannot be used.
    """
    if url == "local":
        return LocalRegistry(directory / "registry.db")
    try:
        return MesosRegistry(MesosAgent(read_mesos_address(url), token_file))
    except Refused:
        raise SettingsError(f'registry.url = "{url}": must be {ALLOWED}') from None
