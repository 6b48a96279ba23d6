# SPDX-License-Identifier: Apache-2.0
"""Where the cluster records its overlays, its agents, and which agent holds which agent subnet.

One interface; `local` keeps it in a file, for a cluster of one host, `zookeeper` in ZooKeeper; `mesos` reads what a
Mesos agent says.
"""

from __future__ import annotations

from pathlib import Path

from dni_driver.core.errors import Refused, SettingsError
from dni_driver.core.mesos.address import MesosAddress
from dni_driver.core.registry_address import read_address
from dni_driver.registry.access import Access
from dni_driver.registry.interface import Host, Lease, Member, News, Registry
from dni_driver.registry.local import LocalRegistry
from dni_driver.registry.mesos import MesosRegistry
from dni_driver.registry.mesos_agent import MesosAgent

__all__ = ["Access", "Host", "Lease", "Member", "News", "Registry", "open_registry"]


def open_registry(url: str, directory: Path, access: Access = Access()) -> Registry:  # noqa: B008 - frozen
    """Open the registry that the settings name; `directory` is where a local one keeps its file.

    One on other hosts is not waited for. Raises SettingsError for an unknown one, StoreError where the file cannot
    be used.
    """
    try:
        address = read_address(url)
    except Refused as error:
        raise SettingsError(f'registry.url = "{url}": {error}') from None
    if address is None:
        return LocalRegistry(directory / "registry.db")
    if isinstance(address, MesosAddress):
        return MesosRegistry(MesosAgent(address, access))
    # Here, as hosts that are alone need no kazoo.
    from dni_driver.registry.zookeeper import ZooKeeperRegistry  # noqa: PLC0415

    return ZooKeeperRegistry(address, access)
