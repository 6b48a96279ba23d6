# SPDX-License-Identifier: Apache-2.0
"""The registry of a cluster of one host: an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path

from dni_driver.core.deadline import within
from dni_driver.core.errors import InUse, Refused, StoreError
from dni_driver.core.overlays import AgentSubnet, Family, Overlay, lowest_free
from dni_driver.registry.interface import Lease, check_widening, is_defined, unknown

LOCK_SECONDS = 5.0
MODE = 0o600
_VERSION = 1
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
_SCHEMA = (_OVERLAY_TABLE, _LEASE_TABLE, f"PRAGMA user_version = {_VERSION}")


class LocalRegistry:
    """WAL with synchronous=FULL; a connection for each transaction, as they are few."""

    def __init__(self, path: Path) -> None:
        """Open the file or make it; raise StoreError where it cannot be used."""
        self._path = path
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
            if not is_defined(overlay, _overlays(tx)):
                tx.execute("INSERT INTO overlay VALUES (?, ?, ?, ?, ?, ?)", _row(overlay))

    def widen(self, overlay: Overlay) -> None:
        """Give an overlay the family that it lacks (Registry.widen)."""
        with self._transaction() as tx:
            check_widening(overlay, _overlays(tx))
            _, *definition = _row(overlay)
            tx.execute(
                "UPDATE overlay SET subnet = ?, prefix = ?, subnet6 = ?, prefix6 = ?, backend = ? WHERE name = ?",
                (*definition, overlay.name),
            )

    def remove(self, name: str) -> None:
        """Forget an overlay and its leases (Registry.remove)."""
        with self._transaction() as tx:
            _find(tx, name)
            tx.execute("DELETE FROM lease WHERE overlay = ?", (name,))
            tx.execute("DELETE FROM overlay WHERE name = ?", (name,))

    def lease(self, overlay: str, family: Family, agent_ip: IPv4Address) -> AgentSubnet:
        """Give the lowest free agent subnet (Registry.lease)."""
        with self._transaction() as tx:
            found = _find(tx, overlay)
            taken = [lease.held for lease in _leases(tx) if lease.held.overlay == overlay]
            subnet = lowest_free(found, family, [held.subnet for held in taken if held.family == family])
            held = AgentSubnet(overlay=overlay, subnet=subnet)
            _add(tx, held, agent_ip)
        return held

    def confirm(self, held: AgentSubnet, agent_ip: IPv4Address, formerly: IPv4Address | None = None) -> None:
        """Record a lease that a store knows of (Registry.confirm)."""
        with self._transaction() as tx:
            _check_shape(held, _find(tx, held.overlay))
            holder = next((lease.agent_ip for lease in _leases(tx) if lease.held == held), None)
            if holder is None:
                _add(tx, held, agent_ip)
            elif holder in (agent_ip, formerly):
                tx.execute("UPDATE lease SET agent_ip = ? WHERE subnet = ?", (str(agent_ip), str(held.subnet)))
            else:
                raise InUse(f"agent subnet {held.subnet} of overlay {held.overlay!r} is held by agent {holder}")

    def leases(self, agent_ip: IPv4Address | None = None) -> list[Lease]:
        """Answer who holds what (Registry.leases)."""
        with self._transaction() as tx:
            return [lease for lease in _leases(tx) if agent_ip in (None, lease.agent_ip)]

    def give_back(self, held: AgentSubnet, agent_ip: IPv4Address) -> None:
        """End a lease (Registry.give_back)."""
        with self._transaction() as tx:
            tx.execute(
                "DELETE FROM lease WHERE overlay = ? AND subnet = ? AND agent_ip = ?",
                (held.overlay, str(held.subnet), str(agent_ip)),
            )

    def close(self) -> None:
        """Nothing is held open between transactions."""

    def _prepare(self) -> None:
        with self._transaction() as tx:
            (done,) = tx.execute("PRAGMA user_version").fetchone()
            if done > _VERSION:
                raise StoreError(
                    f"the registry {self._path} was written by a newer dni (version {done}): install that one"
                )
            for statement in _SCHEMA if done == 0 else ():
                tx.execute(statement)

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
        Lease(agent_ip=IPv4Address(agent_ip), held=AgentSubnet(overlay=overlay, subnet=ip_network(subnet)))
        for overlay, subnet, agent_ip in rows
    ]


def _add(tx: sqlite3.Connection, held: AgentSubnet, agent_ip: IPv4Address) -> None:
    tx.execute(
        "INSERT INTO lease (overlay, subnet, agent_ip) VALUES (?, ?, ?)",
        (held.overlay, str(held.subnet), str(agent_ip)),
    )


def _check_shape(held: AgentSubnet, overlay: Overlay) -> None:
    space = overlay.space(held.family)
    # The overlap of a longer with a shorter prefix is containment.
    if space is None or held.subnet.prefixlen != space[1] or not held.subnet.overlaps(space[0]):
        raise Refused(f"{held.subnet} is no agent subnet of overlay {overlay.name!r}")


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
