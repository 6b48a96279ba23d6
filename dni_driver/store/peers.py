# SPDX-License-Identifier: Apache-2.0
"""The other agents, and this one's own VTEP, as the registry told of them last."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Interface, ip_address, ip_network

from dni_driver.core.overlays import Address, AgentSubnet
from dni_driver.core.peers import Peer, Vtep
from dni_driver.store import meta
from dni_driver.store.database import Transaction

_VTEP = "vtep"
_REMEMBERED = 1 << 14
"""Peers that need not be decoded again each time that the store is read."""


def every(tx: Transaction) -> list[Peer]:
    """Answer all peers, by agent IP as text."""
    return [_peer(*row) for row in tx.execute("SELECT agent_ip, vtep, subnets FROM peer ORDER BY agent_ip")]


def number(tx: Transaction) -> int:
    """Count the peers."""
    (count,) = tx.execute("SELECT count(*) FROM peer").fetchone()
    return int(count)


def put(tx: Transaction, peers: Iterable[Peer]) -> bool:
    """Record peers as they are now; tell whether that changed anything."""
    changed = tx.executemany(
        "INSERT INTO peer VALUES (?, ?, ?) ON CONFLICT (agent_ip) DO UPDATE SET vtep = excluded.vtep, "
        "subnets = excluded.subnets WHERE (vtep, subnets) != (excluded.vtep, excluded.subnets)",
        [_row(peer) for peer in peers],
    )
    return changed.rowcount > 0


def drop(tx: Transaction, agents: Iterable[Address]) -> bool:
    """Forget peers; tell whether any of them was known."""
    return tx.executemany("DELETE FROM peer WHERE agent_ip = ?", [(str(agent),) for agent in agents]).rowcount > 0


def keep_only(tx: Transaction, agents: Iterable[Address]) -> bool:
    """Forget all other peers; tell whether there were any."""
    known = {row["agent_ip"] for row in tx.execute("SELECT agent_ip FROM peer")}
    return drop(tx, map(ip_address, known - {str(agent) for agent in agents}))


def set_vtep(tx: Transaction, vtep: Vtep) -> None:
    """Record this agent's own VTEP."""
    meta.put(tx, _VTEP, str(vtep.ip))


def vtep(tx: Transaction) -> Vtep | None:
    """Answer this agent's own VTEP, once it has one."""
    text = meta.find(tx, _VTEP)
    return Vtep(IPv4Interface(text)) if text else None


def _row(peer: Peer) -> tuple[str, str, str]:
    subnets = [[held.overlay, str(held.subnet)] for held in peer.subnets]
    return str(peer.agent_ip), str(peer.vtep.ip), json.dumps(subnets)


@lru_cache(_REMEMBERED)
def _peer(agent_ip: str, vtep: str, subnets: str) -> Peer:
    held = (AgentSubnet(overlay=overlay, subnet=ip_network(subnet)) for overlay, subnet in json.loads(subnets))
    return Peer(agent_ip=ip_address(agent_ip), vtep=Vtep(IPv4Interface(vtep)), subnets=tuple(held))
