# SPDX-License-Identifier: Apache-2.0
"""The agents of a local registry: who is one, which VTEP it has, which overlays it uses."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from ipaddress import IPv4Interface, IPv4Network, ip_address

import msgspec

from dni_driver.core.agent_ip import check_family, in_order
from dni_driver.core.data_plane.vteps import check_apart, check_widening, chosen, kept, lowest_free, vtep_in
from dni_driver.core.overlays import VTEP_SUBNET, Address, Overlay
from dni_driver.core.peers import Vtep
from dni_driver.registry import local_counts
from dni_driver.registry.admission import Life, check_address, check_move, moves
from dni_driver.registry.interface import Host, Lease, Member, still_alive, unknown_agent
from dni_driver.registry.local_life import Lives

TABLES = (
    """
CREATE TABLE agent (
    agent_ip      TEXT PRIMARY KEY,
    vtep          TEXT NOT NULL UNIQUE,
    identity      TEXT NOT NULL,
    boot          TEXT NOT NULL,
    since         REAL NOT NULL,
    seen          REAL NOT NULL,
    reclaim_after REAL
) STRICT""",
    """
CREATE TABLE use (
    overlay  TEXT NOT NULL REFERENCES overlay (name),
    agent_ip TEXT NOT NULL,
    PRIMARY KEY (overlay, agent_ip)
) STRICT, WITHOUT ROWID""",
)

VTEPS_TABLE = ("CREATE TABLE vteps (subnet TEXT NOT NULL) STRICT",)
"""One row, once there is an agent; where there are agents and none, VTEPs come from DC/OS's subnet."""


class _Row(msgspec.Struct, frozen=True):
    """An agent, as its table has it; `since` and `seen` in seconds since 1970."""

    agent_ip: str
    vtep: str
    identity: str
    boot: str
    since: float
    seen: float
    reclaim_after: float | None

    @property
    def ip(self) -> Address:
        return ip_address(self.agent_ip)

    @property
    def life(self) -> Life:
        return Life(identity=self.identity, boot=self.boot)


def register(tx: sqlite3.Connection, host: Host, known: Sequence[Overlay], lives: Lives, now: float) -> Vtep:
    """Make a host an agent that is alive, beside the overlays that are known (Registry.register)."""
    subnet = _settled_subnet(tx, host, known)
    mine = _find(tx, host.agent_ip)
    if not lives.is_ours(host.agent_ip):
        check_address(host, _life(mine, lives))
    formerly = moves(host)
    check_family(host.agent_ip, (row.ip for row in _every(tx) if (row.ip, row.identity) != (formerly, host.identity)))
    if formerly is not None:
        _move(tx, host, formerly, mine, lives)
        mine = _find(tx, host.agent_ip)
    vtep = vtep_in(IPv4Interface(mine.vtep).ip, subnet) if mine else _free_vtep(tx, host.vtep, subnet)
    since = mine.since if mine and lives.is_ours(host.agent_ip) else now
    lives.begin(host.agent_ip)
    tx.execute(
        "INSERT INTO agent VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (agent_ip) DO UPDATE SET identity = "
        "excluded.identity, vtep = excluded.vtep, boot = excluded.boot, since = excluded.since, "
        "seen = excluded.seen, reclaim_after = excluded.reclaim_after",
        (str(host.agent_ip), str(vtep.ip), host.identity, host.boot, since, now, host.reclaim_after),
    )
    return vtep


def members(tx: sqlite3.Connection, lives: Lives, held: Sequence[Lease]) -> list[Member]:
    """Answer all agents, by IP; `held` is who holds what."""
    found: list[Member] = []
    rows = {row.ip: row for row in _every(tx)}
    for agent in in_order(rows.keys() | {lease.agent_ip for lease in held}):
        row = rows.get(agent)
        alive = lives.is_alive(agent)
        found.append(
            Member(
                agent_ip=agent,
                vtep=Vtep(IPv4Interface(row.vtep)) if row else None,
                subnets=tuple(lease.held for lease in held if lease.agent_ip == agent),
                alive=alive,
                since=(row.since if alive else row.seen) if row else 0.0,
            )
        )
    return found


def vteps(tx: sqlite3.Connection) -> dict[Address, Vtep]:
    """Answer every agent's VTEP."""
    return {row.ip: Vtep(IPv4Interface(row.vtep)) for row in _every(tx)}


def see(tx: sqlite3.Connection, agent_ip: Address, now: float) -> None:
    """Note when an agent was seen; raise NotFound."""
    if tx.execute("UPDATE agent SET seen = ? WHERE agent_ip = ?", (now, str(agent_ip))).rowcount == 0:
        raise unknown_agent(agent_ip)


def check_known(tx: sqlite3.Connection, agent_ip: Address) -> None:
    """Raise NotFound for what is no agent."""
    if _find(tx, agent_ip) is None:
        raise unknown_agent(agent_ip)


def forget(tx: sqlite3.Connection, agent_ip: Address, lives: Lives) -> None:
    """Forget an agent and what it holds; raise NotFound, or InUse where it is alive."""
    text = (str(agent_ip),)
    if lives.is_alive(agent_ip):
        raise still_alive(agent_ip)
    tables = ("agent", "lease", "use")
    gone = sum(tx.execute(f"DELETE FROM {table} WHERE agent_ip = ?", text).rowcount for table in tables)  # noqa: S608 - our own names
    if gone == 0:
        raise unknown_agent(agent_ip)
    local_counts.drop(tx, agent_ip)
    lives.drop(agent_ip)


def overdue(tx: sqlite3.Connection, lives: Lives, now: float) -> list[Address]:
    """Answer the agents that were not seen for longer than they said."""
    return [
        row.ip
        for row in _every(tx)
        if row.reclaim_after is not None and now - row.seen > row.reclaim_after and not lives.is_alive(row.ip)
    ]


def use(tx: sqlite3.Connection, agent_ip: Address, names: Collection[str]) -> None:
    """Record which overlays an agent uses, and no other; it says so every few seconds, and mostly the same."""
    rows = tx.execute("SELECT overlay FROM use WHERE agent_ip = ?", (str(agent_ip),))
    if {overlay for (overlay,) in rows} == set(names):
        return
    tx.execute("DELETE FROM use WHERE agent_ip = ?", (str(agent_ip),))
    for name in names:
        tx.execute("INSERT INTO use VALUES (?, ?)", (name, str(agent_ip)))


def begin_use(tx: sqlite3.Connection, agent_ip: Address, name: str) -> None:
    """Record that an agent uses an overlay beside those that it has told of."""
    used = [name for (name,) in tx.execute("SELECT overlay FROM use WHERE agent_ip = ?", (str(agent_ip),))]
    use(tx, agent_ip, {*used, name})


def users(tx: sqlite3.Connection, overlay: str) -> list[Address]:
    """Answer who uses an overlay."""
    rows = tx.execute("SELECT agent_ip FROM use WHERE overlay = ?", (overlay,))
    return [ip_address(agent_ip) for (agent_ip,) in rows]


def _move(tx: sqlite3.Connection, host: Host, formerly: Address, mine: _Row | None, lives: Lives) -> None:
    """Have an agent be known by its new IP, with what it held under the former one."""
    theirs = _find(tx, formerly)
    is_same = theirs is not None and theirs.identity == host.identity
    check_move(host, _life(theirs, lives) if is_same else None, mine.identity if mine else None)
    if is_same:
        new, old = str(host.agent_ip), str(formerly)
        tx.execute("DELETE FROM agent WHERE agent_ip = ?", (new,))
        tx.execute("UPDATE agent SET agent_ip = ? WHERE agent_ip = ?", (new, old))
        tx.execute("UPDATE lease SET agent_ip = ? WHERE agent_ip = ?", (new, old))
        tx.execute("DELETE FROM use WHERE agent_ip = ?", (old,))
        local_counts.drop(tx, formerly)
        lives.drop(formerly)


def _life(row: _Row | None, lives: Lives) -> Life | None:
    return row.life if row is not None and lives.is_alive(row.ip) else None


def widen_vteps(tx: sqlite3.Connection, subnet: IPv4Network, known: Sequence[Overlay]) -> None:
    """Have VTEPs come from a wider subnet (Registry.widen_vteps)."""
    now = vtep_subnet(tx)
    if subnet != now:
        check_widening(now, subnet, known)
        tx.execute("DELETE FROM vteps")
        tx.execute("INSERT INTO vteps VALUES (?)", (str(subnet),))


def vtep_subnet(tx: sqlite3.Connection) -> IPv4Network:
    """Answer where VTEPs come from."""
    found = tx.execute("SELECT subnet FROM vteps").fetchone()
    return IPv4Network(found[0]) if found else VTEP_SUBNET


def _settled_subnet(tx: sqlite3.Connection, host: Host, known: Sequence[Overlay]) -> IPv4Network:
    """Answer where VTEPs come from; the first agent settles that."""
    (settled,) = tx.execute("SELECT (SELECT count(*) FROM agent) + (SELECT count(*) FROM vteps)").fetchone()
    if not settled:
        subnet = chosen(host.vtep_subnet, host.vtep)
        check_apart(subnet, known)
        tx.execute("INSERT INTO vteps VALUES (?)", (str(subnet),))
    return vtep_subnet(tx)


def _free_vtep(tx: sqlite3.Connection, wanted: Vtep | None, subnet: IPv4Network) -> Vtep:
    taken = {vtep.ip.ip for vtep in vteps(tx).values()}
    had = kept(wanted, subnet)
    return had if had is not None and had.ip.ip not in taken else lowest_free(taken, subnet)


def _find(tx: sqlite3.Connection, agent_ip: Address) -> _Row | None:
    row = tx.execute("SELECT * FROM agent WHERE agent_ip = ?", (str(agent_ip),)).fetchone()
    return _Row(*row) if row else None


def _every(tx: sqlite3.Connection) -> list[_Row]:
    return [_Row(*row) for row in tx.execute("SELECT * FROM agent")]
