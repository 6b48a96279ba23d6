# SPDX-License-Identifier: Apache-2.0
"""What dockerd says of itself, for `dni doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dni_driver.agent.docker import DockerDaemon
from dni_driver.agent.docker_wire import Network, Plugin, convert
from dni_driver.core.doctor.facts import DockerFacts, ManagedPlugin
from dni_driver.core.errors import Unavailable
from dni_driver.core.views import is_dni

_LINK = "com.docker.network.bridge.name"


def look(docker: DockerDaemon) -> DockerFacts:
    """Ask dockerd for its version, plugins and networks; raise PermissionError where this user may not."""
    try:
        with docker.asking() as client:
            version = convert(client.version(), dict[str, Any]).get("Version") or ""
            plugins = convert(client.plugins(), list[Plugin])
            networks = convert(client.networks(), list[Network])
    except Unavailable as error:
        if isinstance(error.__cause__, PermissionError):
            raise error.__cause__ from None
        return DockerFacts(trouble=str(error))
    return DockerFacts(
        version=version,
        plugins=tuple(ManagedPlugin(plugin.name, plugin.is_enabled) for plugin in plugins),
        networks={network.id: network.name for network in networks if is_dni(network.driver)},
        bridges=_bridges(networks),
    )


def _bridges(networks: Sequence[Network]) -> dict[str, str]:
    """Answer Docker's own bridge networks whose link has a name that somebody chose, by that."""
    return {
        network.options[_LINK]: network.name for network in networks if network.options and _LINK in network.options
    }
