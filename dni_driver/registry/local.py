# SPDX-License-Identifier: Apache-2.0
"""The registry of a cluster of one host: an SQLite file."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from dni_driver.core.addresses.counts import Counts, Told
from dni_driver.core.data_plane.vteps import check_apart
from dni_driver.core.deadline import within
from dni_driver.core.errors import StoreError
from dni_driver.core.overlays import Address, AgentSubnet, Backend, Family, Overlay, lowest_free
from dni_driver.core.peers import Peer, Vtep
from dni_driver.registry import local_agents, local_counts, local_removals
from dni_driver.registry.interface import (
    Host,
    Lease,
    Member,
    News,
    check_shape,
    check_widening,
    held_by,
    is_defined,
    not_to_be_asked,
    stays,
    unknown,
    used_by,
    with_backend,
)
from dni_driver.registry.local_life import Lives

LOCK_SECONDS = 5.0
MODE = 0o600
_LOOKS_EVERY = 1.0
"""Seconds: what other processes write is looked for."""
_VERSION = 5
_OVERLAY_TABLE = """
CREATE TABLE overlay (
    name    TEXT PRIMARY KEY,
    subnet  TEXT,
    prefix  INTEGER,
    subnet6 TEXT,
    prefix6 INTEGER,
    backend TEXT NOT NULL
) STRICT"""
_LEASE_TABLE = """
CREATE TABLE lease (
    seq      INTEGER PRIMARY KEY,
    overlay  TEXT NOT NULL REFERENCES overlay (name),
    subnet   TEXT NOT NULL UNIQUE,
    agent_ip TEXT NOT NULL
) STRICT"""
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_STEPS = (
    (_OVERLAY_TABLE, _LEASE_TABLE),
    local_agents.TABLES,
    local_agents.VTEPS_TABLE,
    local_counts.TABLE,
    local_removals.TABLE,
)
"""What makes each version out of the one before."""


class LocalRegistry:
    """WAL with synchronous=FULL; a connection for each transaction, as they are few.

    Every method is described in Registry.
    """

    def __init__(self, path: Path) -> None:
        """Open the file or make it; raise StoreError where it cannot be used."""
        self._path = path
        self._lives = Lives(path)
        self._closed = threading.Event()
        self._told: tuple[dict[Address, Peer], tuple[list[Overlay], dict[str, Address]]] | None = None
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=MODE, exist_ok=True)
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
        self._prepare()

    def overlays(self) -> list[Overlay]:
        """Answer all overlays, by name."""
        with self._transaction() as tx:
            return _overlays(tx)

    def define(self, overlay: Overlay) -> None:
        """Record an overlay (Registry.define)."""
        with self._transaction() as tx:
            local_removals.check_given(tx, overlay.name)
            if not is_defined(overlay, _overlays(tx)):
                check_apart(local_agents.vtep_subnet(tx), [overlay])
                tx.execute("INSERT INTO overlay VALUES (?, ?, ?, ?, ?, ?)", _row(overlay))

    def widen(self, overlay: Overlay) -> None:
        """Give an overlay the family that it lacks (Registry.widen)."""
        with self._transaction() as tx:
            local_removals.check_given(tx, overlay.name)
            check_widening(overlay, _overlays(tx))
            check_apart(local_agents.vtep_subnet(tx), [overlay])
            _replace(tx, overlay)

    def set_backend(self, name: str, backend: Backend) -> None:
        """Have an overlay's packets travel in another way (Registry.set_backend)."""
        with self._transaction() as tx:
            local_removals.check_given(tx, name)
            _replace(tx, with_backend(name, backend, _overlays(tx)))

    def use(self, agent_ip: Address, names: Collection[str]) -> None:
        """Say which overlays an agent uses now (Registry.use)."""
        with self._transaction() as tx:
            local_agents.check_known(tx, agent_ip)
            local_agents.use(tx, agent_ip, [one.name for one in _overlays(tx) if one.name in names])

    def begin_removal(self, name: str, agent_ip: Address) -> None:
        """Mark an overlay as leaving (Registry.begin_removal)."""
        with self._transaction() as tx:
            _find(tx, name)
            if name in local_removals.every(tx):
                return
            users = local_agents.users(tx, name)
            if users:
                raise used_by(name, users)
            silent = [agent for agent in _holders(tx, name) if not self._lives.is_alive(agent)]
            if silent:
                raise not_to_be_asked(name, silent)
            local_removals.mark(tx, name, agent_ip)

    def leaving(self) -> dict[str, Address]:
        """Answer the overlays that are leaving (Registry.leaving)."""
        with self._transaction() as tx:
            return local_removals.every(tx)

    def keep(self, name: str, agent_ip: Address | None = None) -> None:
        """Have an overlay stay that is leaving (Registry.keep)."""
        with self._transaction() as tx:
            _find(tx, name)
            if agent_ip is not None and name in local_removals.every(tx):
                local_agents.begin_use(tx, agent_ip, name)
            local_removals.clear(tx, name)

    def end_removal(self, name: str) -> bool:
        """Forget an overlay that is leaving where nobody holds any of it (Registry.end_removal)."""
        with self._transaction() as tx:
            users = local_agents.users(tx, name)
            if name not in {overlay.name for overlay in _overlays(tx)}:
                return True
            if name not in local_removals.every(tx):
                raise stays(name, users)
            if users or _holders(tx, name):
                return False
            tx.execute("DELETE FROM overlay WHERE name = ?", (name,))
        return True

    def lease(self, overlay: str, family: Family, agent_ip: Address) -> AgentSubnet:
        """Give the lowest free agent subnet (Registry.lease)."""
        with self._transaction() as tx:
            found = _find(tx, overlay)
            local_agents.check_known(tx, agent_ip)
            local_removals.check_given(tx, overlay)
            taken = [lease.held for lease in _leases(tx) if lease.held.overlay == overlay]
            subnet = lowest_free(found, family, [held.subnet for held in taken if held.family == family])
            held = AgentSubnet(overlay=overlay, subnet=subnet)
            _add(tx, held, agent_ip)
        return held

    def confirm(self, held: AgentSubnet, agent_ip: Address, formerly: Address | None = None) -> None:
        """Record a lease that a store knows of (Registry.confirm)."""
        with self._transaction() as tx:
            check_shape(held, _find(tx, held.overlay))
            holder = next((lease.agent_ip for lease in _leases(tx) if lease.held == held), None)
            if holder is None:
                local_removals.check_given(tx, held.overlay)
                _add(tx, held, agent_ip)
            elif holder == agent_ip or (holder == formerly and not self._lives.is_alive(holder)):
                tx.execute("UPDATE lease SET agent_ip = ? WHERE subnet = ?", (str(agent_ip), str(held.subnet)))
            else:
                raise held_by(held, holder)

    def leases(self, agent_ip: Address | None = None) -> list[Lease]:
        """Answer who holds what (Registry.leases)."""
        with self._transaction() as tx:
            return [lease for lease in _leases(tx) if agent_ip in (None, lease.agent_ip)]

    def give_back(self, held: AgentSubnet, agent_ip: Address) -> None:
        """End a lease (Registry.give_back)."""
        with self._transaction() as tx:
            tx.execute(
                "DELETE FROM lease WHERE overlay = ? AND subnet = ? AND agent_ip = ?",
                (held.overlay, str(held.subnet), str(agent_ip)),
            )

    def register(self, host: Host) -> Vtep:
        """Make a host an agent that is alive (Registry.register)."""
        with self._transaction() as tx:
            return local_agents.register(tx, host, _overlays(tx), self._lives, time.time())

    def widen_vteps(self, subnet: IPv4Network) -> None:
        """Have VTEPs come from a wider subnet (Registry.widen_vteps)."""
        with self._transaction() as tx:
            local_agents.widen_vteps(tx, subnet, _overlays(tx))

    def members(self) -> list[Member]:
        """Answer all agents (Registry.members)."""
        with self._transaction() as tx:
            return local_agents.members(tx, self._lives, _leases(tx))

    def alive(self) -> frozenset[Address]:
        """Answer which agents are alive (Registry.alive)."""
        return frozenset(member.agent_ip for member in self.members() if member.alive)

    def news(self, seconds: float) -> News:
        """Answer what has changed since the last call (Registry.news)."""
        ends = time.monotonic() + seconds
        while not self._closed.is_set():
            found, left = self._look(), ends - time.monotonic()
            if found or left <= 0:
                return found
            self._closed.wait(min(left, _LOOKS_EVERY))
        return News()

    def seen(self, agent_ip: Address) -> None:
        """Note that an agent has its wits about it (Registry.seen)."""
        with self._transaction() as tx:
            local_agents.see(tx, agent_ip, time.time())

    def tell(self, agent_ip: Address, counts: Counts) -> None:
        """Say how full an agent is (Registry.tell)."""
        with self._transaction() as tx:
            local_agents.check_known(tx, agent_ip)
            local_counts.put(tx, agent_ip, counts)

    def told(self, agents: Collection[Address]) -> dict[Address, Told]:
        """Answer what agents told (Registry.told)."""
        with self._transaction() as tx:
            return local_counts.find(tx, agents)

    def forget(self, agent_ip: Address) -> None:
        """Forget an agent, and give up all it holds (Registry.forget)."""
        with self._transaction() as tx:
            local_agents.forget(tx, agent_ip, self._lives)

    def reclaim(self) -> list[Address]:
        """Forget agents that were not seen for longer than they said (Registry.reclaim)."""
        with self._transaction() as tx:
            due = local_agents.overdue(tx, self._lives, time.time())
            for agent in due:
                local_agents.forget(tx, agent, self._lives)
        return due

    def close(self) -> None:
        """End the agent's life; nothing else is held open between transactions."""
        self._closed.set()
        self._lives.end()

    def _look(self) -> News:
        with self._transaction() as tx:
            found, overlays = _peers(tx), (_overlays(tx), local_removals.every(tx))
        told, self._told = self._told, (found, overlays)
        if told is None:
            return News(peers=tuple(found.values()), whole=True, overlays=True)
        known, known_overlays = told
        return News(
            peers=tuple(peer for agent, peer in found.items() if peer != known.get(agent)),
            gone=frozenset(known.keys() - found.keys()),
            overlays=overlays != known_overlays,
        )

    def _prepare(self) -> None:
        with self._transaction() as tx:
            (done,) = tx.execute("PRAGMA user_version").fetchone()
            if done > _VERSION:
                raise StoreError(
                    f"the registry {self._path} was written by a newer dni (version {done}): install that one"
                )
            for statement in (statement for step in _STEPS[done:] for statement in step):
                tx.execute(statement)
            tx.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the right to write; what was not committed goes with the connection."""
        with (
            _explained(self._path),
            closing(sqlite3.connect(self._path, within(LOCK_SECONDS), isolation_level=None)) as connection,
        ):
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.commit()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        text = " ".join(str(error).split())
        if (getattr(error, "sqlite_errorname", None) or "").startswith(_DAMAGE):
            raise StoreError(
                f"the registry {path} is damaged ({text}): stop dni and move it away (mv {path}* ELSEWHERE); what "
                f"this host takes part in is put back into a new one"
            ) from error
        raise StoreError(f"the registry {path} cannot be used: {text}") from error


def _overlays(tx: sqlite3.Connection) -> list[Overlay]:
    return [_overlay(*row) for row in tx.execute("SELECT * FROM overlay ORDER BY name")]


def _find(tx: sqlite3.Connection, name: str) -> Overlay:
    for overlay in _overlays(tx):
        if overlay.name == name:
            return overlay
    raise unknown(name)


def _leases(tx: sqlite3.Connection) -> list[Lease]:
    rows = tx.execute("SELECT overlay, subnet, agent_ip FROM lease ORDER BY seq")
    return [
        Lease(agent_ip=ip_address(agent_ip), held=AgentSubnet(overlay=overlay, subnet=ip_network(subnet)))
        for overlay, subnet, agent_ip in rows
    ]


def _holders(tx: sqlite3.Connection, name: str) -> set[Address]:
    return {lease.agent_ip for lease in _leases(tx) if lease.held.overlay == name}


def _add(tx: sqlite3.Connection, held: AgentSubnet, agent_ip: Address) -> None:
    tx.execute(
        "INSERT INTO lease (overlay, subnet, agent_ip) VALUES (?, ?, ?)",
        (held.overlay, str(held.subnet), str(agent_ip)),
    )


def _peers(tx: sqlite3.Connection) -> dict[Address, Peer]:
    held = _leases(tx)
    return {
        agent: Peer(agent_ip=agent, vtep=vtep, subnets=tuple(one.held for one in held if one.agent_ip == agent))
        for agent, vtep in local_agents.vteps(tx).items()
    }


def _replace(tx: sqlite3.Connection, overlay: Overlay) -> None:
    _, *definition = _row(overlay)
    tx.execute(
        "UPDATE overlay SET subnet = ?, prefix = ?, subnet6 = ?, prefix6 = ?, backend = ? WHERE name = ?",
        (*definition, overlay.name),
    )


def _row(overlay: Overlay) -> tuple[str | int | None, ...]:
    return (
        overlay.name,
        str(overlay.subnet) if overlay.subnet else None,
        overlay.prefix,
        str(overlay.subnet6) if overlay.subnet6 else None,
        overlay.prefix6,
        overlay.backend,
    )


def _overlay(name: str, subnet: str | None, prefix: int, subnet6: str | None, prefix6: int, backend: str) -> Overlay:
    return Overlay(
        name=name,
        subnet=IPv4Network(subnet) if subnet else None,
        prefix=prefix,
        subnet6=IPv6Network(subnet6) if subnet6 else None,
        prefix6=prefix6,
        backend=backend,  # type: ignore[arg-type]  # written from an Overlay
    )
