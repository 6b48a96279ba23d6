# SPDX-License-Identifier: Apache-2.0
"""Agents that a registry knows, for tests of what they hold there."""

from __future__ import annotations

from dni_driver.core.overlays import Address
from dni_driver.registry import Host, Registry


def joined(registry: Registry, *agents: Address) -> Registry:
    """Have agents be known to a registry, and alive as long as that is open; those it knows stay as they are."""
    known = {member.agent_ip for member in registry.members()}
    for agent in agents:
        if agent not in known:
            registry.register(Host(agent_ip=agent, identity=str(agent), boot="boot"))
    return registry
