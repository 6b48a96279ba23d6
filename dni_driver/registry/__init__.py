# SPDX-License-Identifier: Apache-2.0
"""Where the cluster records its overlays, and which agent holds which agent subnet.

One interface; `local` keeps it in a file, for a cluster of one host.
"""

from __future__ import annotations

from pathlib import Path

from dni_driver.core.errors import SettingsError
from dni_driver.registry.interface import Lease, Registry
from dni_driver.registry.local import LocalRegistry

__all__ = ["Lease", "Registry", "open_registry"]


def open_registry(url: str, directory: Path) -> Registry:
    """Open the registry that the settings name; `directory` is where a local one keeps its file.

    Raises SettingsError for an unknown one, StoreError where the file cannot be used.
    """
    if url == "local":
        return LocalRegistry(directory / "registry.db")
    raise SettingsError(f'registry.url = "{url}": must be "local", which keeps the registry on this host')
