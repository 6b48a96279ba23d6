# SPDX-License-Identifier: Apache-2.0
"""What the agent is told by the settings."""

from __future__ import annotations

from ipaddress import IPv4Network

import msgspec

from dni_driver.agent.cni import CniOptions
from dni_driver.core.docker_networks import Choice, is_wanted
from dni_driver.core.driver_name import PLAIN
from dni_driver.core.invariants.collection import Graces
from dni_driver.core.overlays import Address, Overlay


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say about the agent.

    `default_overlay` is None where somebody else says which overlays there are. `registry` names it for people;
    `agent_ip` is None where the agent shall find it; graces are in seconds, as is `reclaim_after`, None for never.
    `driver` is what Docker calls dni, `create_networks` whether the agent makes the Docker networks of overlays.
    `vtep_subnet` is where all agents have their VTEPs from, None for where the registry says.
    """

    default_overlay: Overlay | None
    registry: str = "local"
    agent_ip: Address | None = None
    driver: str = PLAIN
    create_networks: Choice = "auto"
    claim_grace: float = Graces().claim
    grace: float = Graces().endpoint
    reclaim_after: float | None = None
    cni: CniOptions = CniOptions()
    vtep_subnet: IPv4Network | None = None

    @property
    def default_name(self) -> str | None:
        """Answer the name of the default overlay, if there is one."""
        return self.default_overlay.name if self.default_overlay else None

    def makes_network(self, overlay: str) -> bool:
        """Tell whether the agent makes the Docker network of an overlay."""
        return is_wanted(overlay, self.create_networks, self.default_name, self.registry)

    def graces(self) -> Graces:
        """Answer how long leaks are watched: nothing longer than `grace`."""
        return Graces(
            claim=min(self.claim_grace, self.grace),
            endpoint=self.grace,
            network=min(Graces().network, self.grace),
        )
