# SPDX-License-Identifier: Apache-2.0
"""Whether a host may be the agent that it says it is: two living hosts never are one agent."""

from __future__ import annotations

import msgspec

from dni_driver.core.errors import Disowned, Doubled, InUse
from dni_driver.core.overlays import Address
from dni_driver.registry.interface import Host


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """A sign that an agent is alive, as it was given."""

    identity: str
    boot: str

    def is_of(self, host: Host) -> bool:
        """Tell whether a host gave it itself: an earlier process, of which one is left at a time."""
        return (self.identity, self.boot) == (host.identity, host.boot)


def check_address(host: Host, life: Life | None) -> None:
    """Raise InUse where another living host has this agent IP; `life` is its sign, None for none.

    Disowned where that has another identity, Doubled where it may be an earlier life of this one.
    """
    if life is None or life.is_of(host):
        return
    if life.identity == host.identity:
        raise Doubled(
            f"agent {host.agent_ip} was alive a moment ago, before this host was started: this ends by itself in "
            f"some seconds; if it does not, another host has a copy of this one's disk and its address"
        )
    raise Disowned(
        f"another living host is agent {host.agent_ip}: two hosts cannot have one agent IP; give each its own "
        f"(agent.ip in /etc/dni/dni.toml)"
    )


def check_move(host: Host, life: Life | None, recorded: str | None) -> None:
    """Raise InUse where a host cannot take along what it held under its former agent IP: Disowned, or for now.

    `life` is the sign of who is alive there; `recorded` is whose the new agent IP is by the registry, if anybody's.
    """
    if life is not None and not life.is_of(host):
        raise Disowned(
            f"agent {host.formerly} is alive and has the identity of this host, whose disk is a copy of its: stop "
            f"dni here, move its store away (mv /var/lib/dni /var/lib/dni.old), and start it again"
        )
    if recorded not in (None, host.identity):
        raise InUse(
            f"agent IP {host.agent_ip} is recorded for another host, which is not alive: if that is gone for good, "
            f"`dni agent forget {host.agent_ip}`; else give this host back the address {host.formerly}"
        )


def moves(host: Host) -> Address | None:
    """Answer the former agent IP of a host that has another one now."""
    return host.formerly if host.formerly != host.agent_ip else None
