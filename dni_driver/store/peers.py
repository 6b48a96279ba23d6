# SPDX-License-Identifier: Apache-2.0
"""The other agents, and this one's own VTEP, as the registry told of them last."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from ipaddress import IPv4Interface, ip_address, ip_network

from dni_driver.core.overlays import Address, AgentSubnet
from dni_driver.core.peers import Peer, Vtep
from dni_driver.store import meta
from dni_driver.store.database import Transaction

_VTEP = "vtep"
_STATE = "peers"
"""A text that is another one after each change, and is never again what it was, in this store or any other."""


class _Reading:
    """What was read last, of which a peer that did not change is the same object next time; for any thread."""

    def __init__(self) -> None:
        self._last: tuple[str, list[Peer]] | None = None
        self._decoded: dict[tuple[str, str, str], Peer] = {}

    def every(self, tx: Transaction) -> list[Peer]:
        state, last = meta.find(tx, _STATE), self._last
        if last is not None and last[0] == state:
            return last[1]
        rows = [tuple(row) for row in tx.execute("SELECT agent_ip, vtep, subnets FROM peer ORDER BY agent_ip")]
        known = self._decoded
        decoded = {row: known.get(row) or _peer(*row) for row in rows}
        found = list(decoded.values())
        self._decoded = decoded
        self._last = (state, found) if state is not None else None
        return found


_reading = _Reading()


def every(tx: Transaction) -> list[Peer]:
    """Answer all peers, by agent IP as text; nobody changes the list, as it is answered again."""
    return _reading.every(tx)


def number(tx: Transaction) -> int:
    """Count the peers."""
    (count,) = tx.execute("SELECT count(*) FROM peer").fetchone()
    return int(count)


def has_any(tx: Transaction) -> bool:
    """Tell whether there are peers."""
    (found,) = tx.execute("SELECT EXISTS (SELECT 1 FROM peer)").fetchone()
    return bool(found)


def put(tx: Transaction, peers: Iterable[Peer]) -> bool:
    """Record peers as they are now; tell whether that changed anything."""
    changed = tx.executemany(
        "INSERT INTO peer VALUES (?, ?, ?) ON CONFLICT (agent_ip) DO UPDATE SET vtep = excluded.vtep, "
        "subnets = excluded.subnets WHERE (vtep, subnets) != (excluded.vtep, excluded.subnets)",
        [_row(peer) for peer in peers],
    )
    return _noted(tx, changed.rowcount > 0)


def drop(tx: Transaction, agents: Iterable[Address]) -> bool:
    """Forget peers; tell whether any of them was known."""
    gone = tx.executemany("DELETE FROM peer WHERE agent_ip = ?", [(str(agent),) for agent in agents])
    return _noted(tx, gone.rowcount > 0)


def _noted(tx: Transaction, changed: bool) -> bool:  # noqa: FBT001 - what is answered
    if changed:
        meta.put(tx, _STATE, secrets.token_hex(16))
    return changed


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


def _peer(agent_ip: str, vtep: str, subnets: str) -> Peer:
    held = (AgentSubnet(overlay=overlay, subnet=ip_network(subnet)) for overlay, subnet in json.loads(subnets))
    return Peer(agent_ip=ip_address(agent_ip), vtep=Vtep(IPv4Interface(vtep)), subnets=tuple(held))
