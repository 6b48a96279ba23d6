# SPDX-License-Identifier: Apache-2.0
"""Removes overlays as agents do that use none of them."""

from __future__ import annotations

from ipaddress import IPv4Address

from dni_driver.agent.joining import Joining
from dni_driver.core.errors import InUse
from dni_driver.registry import Registry

REMOVER = IPv4Address("192.0.2.99")


def remove(registry: Registry, name: str) -> None:
    """Have an overlay leave, everybody give up what they hold of it, and it be forgotten."""
    registry.begin_removal(name, REMOVER)
    for lease in registry.leases():
        if lease.held.overlay == name:
            registry.give_back(lease.held, lease.agent_ip)
    assert registry.end_removal(name)


def remove_here(joining: Joining, name: str) -> None:
    """Have an agent that is alone remove an overlay, which has no Docker network."""
    if not joining.begin_removal(name):
        joining.forget(name)
        return
    with joining.in_turn():
        try:
            joining.departure.give_up(name, REMOVER)
        except InUse:
            joining.departure.object(name)
            raise
        assert joining.departure.end(name)
