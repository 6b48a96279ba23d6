# SPDX-License-Identifier: Apache-2.0
"""Overlays as this host knows them, its agent IP, and the agent subnets it holds."""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from dni_driver.core.errors import NotFound
from dni_driver.core.overlays import Address, AgentSubnet, Overlay
from dni_driver.core.records import Held
from dni_driver.store import local_subnets, meta
from dni_driver.store.database import Transaction

_REMEMBERED = 256
"""Agent subnets that need not be read out of their text again: each request for an address needs some."""
_AGENT_IP = "agent_ip"


def put(tx: Transaction, overlay: Overlay) -> None:
    """Record an overlay, or what changed about it."""
    tx.execute(
        "INSERT INTO overlay VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
        "subnet = excluded.subnet, prefix = excluded.prefix, subnet6 = excluded.subnet6, "
        "prefix6 = excluded.prefix6, backend = excluded.backend",
        (
            overlay.name,
            str(overlay.subnet) if overlay.subnet else None,
            overlay.prefix,
            str(overlay.subnet6) if overlay.subnet6 else None,
            overlay.prefix6,
            overlay.backend,
        ),
    )


def every(tx: Transaction) -> list[Overlay]:
    """Answer all overlays, by name."""
    return [_overlay(row) for row in tx.execute("SELECT * FROM overlay ORDER BY name")]


def find(tx: Transaction, name: str) -> Overlay:
    """Answer one overlay; raise NotFound."""
    row = tx.execute("SELECT * FROM overlay WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound(f"there is no overlay {name!r}: `dni overlay ls` lists them")
    return _overlay(row)


def remove(tx: Transaction, name: str) -> None:
    """Forget an overlay with its agent subnets and pools; the caller has made sure that nothing uses it."""
    vacate(tx, name)
    tx.execute("DELETE FROM overlay WHERE name = ?", (name,))


def vacate(tx: Transaction, name: str) -> None:
    """Forget all that this host holds of an overlay; the caller has made sure that nothing uses it."""
    tx.execute(
        "DELETE FROM address WHERE pool IN (SELECT id FROM pool WHERE overlay = ?)",
        (name,),
    )
    tx.execute("DELETE FROM pool WHERE overlay = ?", (name,))
    tx.execute("DELETE FROM cni_network WHERE overlay = ?", (name,))
    tx.execute("DELETE FROM agent_subnet WHERE overlay = ?", (name,))
    tx.execute("DELETE FROM local_subnet WHERE overlay = ?", (name,))


def has_any_of(tx: Transaction, name: str) -> bool:
    """Tell whether this host holds anything of an overlay, on its way out or not."""
    found = tx.execute(
        "SELECT 1 FROM agent_subnet WHERE overlay = :name UNION ALL SELECT 1 FROM pool WHERE overlay = :name",
        {"name": name},
    )
    return found.fetchone() is not None


def add_agent_subnet(tx: Transaction, held: AgentSubnet) -> None:
    """Record an agent subnet as held by this agent; a repeat changes nothing."""
    tx.execute(
        "INSERT INTO agent_subnet (overlay, subnet) VALUES (?, ?) ON CONFLICT (subnet) DO NOTHING",
        (held.overlay, str(held.subnet)),
    )


def agent_subnets(tx: Transaction, overlay: str | None = None) -> list[AgentSubnet]:
    """Answer what this agent holds, in the order it was leased; what is on its way out is held no more."""
    rows = tx.execute(
        "SELECT overlay, subnet FROM agent_subnet WHERE leaving_as IS NULL AND (? IS NULL OR overlay = ?) "
        "ORDER BY seq",
        (overlay, overlay),
    )
    return [_agent_subnet(*row) for row in rows]


@lru_cache(_REMEMBERED)
def _agent_subnet(overlay: str, subnet: str) -> AgentSubnet:
    return AgentSubnet(overlay=overlay, subnet=ip_network(subnet))


def held(tx: Transaction, overlay: str | None = None) -> list[Held]:
    """Answer all that containers here can have addresses of: agent subnets, then local ones."""
    return [*agent_subnets(tx, overlay), *local_subnets.every(tx, overlay)]


def set_agent_ip(tx: Transaction, address: Address) -> None:
    """Record under which address this host is an agent."""
    meta.put(tx, _AGENT_IP, str(address))


def agent_ip(tx: Transaction) -> Address | None:
    """Answer this host's agent IP, once it has been found."""
    text = meta.find(tx, _AGENT_IP)
    return ip_address(text) if text else None


def _overlay(row: sqlite3.Row) -> Overlay:
    return Overlay(
        name=row["name"],
        subnet=IPv4Network(row["subnet"]) if row["subnet"] else None,
        prefix=row["prefix"],
        subnet6=IPv6Network(row["subnet6"]) if row["subnet6"] else None,
        prefix6=row["prefix6"],
        backend=row["backend"],
    )
