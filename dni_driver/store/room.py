# SPDX-License-Identifier: Apache-2.0
"""Agent subnets on their way out, and why there can be no more of some overlay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address, ip_network

from dni_driver.core.addresses.allocation import container_span, without
from dni_driver.core.addresses.room import Leaving, grows, is_scarce
from dni_driver.core.overlays import FAMILIES, AgentSubnet, Family, Network
from dni_driver.core.records import ReservationRecord, docker_halves, mesos_halves, mesos_pool_id, pool_id
from dni_driver.store import addresses, networks, overlays, pools, reservations
from dni_driver.store.database import Transaction


def scarce(tx: Transaction) -> Iterator[tuple[str, Family]]:
    """Answer the overlays, and the family, of which this agent needs one more agent subnet."""
    held = overlays.agent_subnets(tx)
    for overlay in overlays.every(tx):
        network = networks.of_overlay(tx, overlay.name)
        kept = reservations.of_overlay(tx, overlay.name)
        for family in FAMILIES:
            pool, mesos = pool_id(overlay.name, family), mesos_pool_id(overlay.name, family)
            docker_grows = grows(pools.lookup(tx, pool), network)
            if (docker_grows and _is_short(tx, pool, docker_halves(held, overlay.name, family), kept)) or (
                pools.lookup(tx, mesos) and _is_short(tx, mesos, mesos_halves(held, overlay.name, family), kept)
            ):
                yield overlay.name, family


def _is_short(tx: Transaction, pool: str, halves: Iterable[Network], kept: Sequence[ReservationRecord]) -> bool:
    spans = [container_span(half) for half in halves]
    size = sum(span.size for span in spans)
    return bool(spans) and is_scarce(size, addresses.count_free(tx, pool, without(spans, kept)))


def begin_leaving(tx: Transaction, leaving: Leaving) -> None:
    """Have no more addresses come from an agent subnet: for all but the way out it is no longer held."""
    tx.execute(
        "UPDATE agent_subnet SET leaving_as = ? WHERE overlay = ? AND subnet = ?",
        (str(leaving.agent_ip), leaving.held.overlay, str(leaving.held.subnet)),
    )


def leaving(tx: Transaction) -> list[Leaving]:
    """Answer the agent subnets that are on their way out, in the order they were leased."""
    rows = tx.execute("SELECT * FROM agent_subnet WHERE leaving_as IS NOT NULL ORDER BY seq")
    return [
        Leaving(
            held=AgentSubnet(overlay=row["overlay"], subnet=ip_network(row["subnet"])),
            agent_ip=ip_address(row["leaving_as"]),
        )
        for row in rows
    ]


def forget(tx: Transaction, held: AgentSubnet) -> None:
    """Forget an agent subnet that was on its way out, with what is known of its addresses: all of them are free."""
    ends = held.subnet.network_address.packed, held.subnet.broadcast_address.packed
    for pool in (pool_id(held.overlay, held.family), mesos_pool_id(held.overlay, held.family)):
        tx.execute("DELETE FROM address WHERE pool = ? AND address BETWEEN ? AND ? AND state = 'free'", (pool, *ends))
        tx.execute("DELETE FROM cursor WHERE pool = ? AND first BETWEEN ? AND ?", (pool, *ends))
    tx.execute(
        "DELETE FROM agent_subnet WHERE overlay = ? AND subnet = ? AND leaving_as IS NOT NULL",
        (held.overlay, str(held.subnet)),
    )


def set_reason(tx: Transaction, overlay: str, family: Family, reason: str | None) -> None:
    """Record why there can be no more room; None: there is some, or nobody has asked."""
    tx.execute("DELETE FROM no_room WHERE overlay = ? AND family = ?", (overlay, family))
    if reason is not None:
        tx.execute(
            "INSERT INTO no_room SELECT name, ?, ? FROM overlay WHERE name = ?",
            (family, reason, overlay),
        )


def reason(tx: Transaction, overlay: str, family: Family) -> str | None:
    """Answer why there can be no more room, None where that is not known to be so."""
    row = tx.execute("SELECT reason FROM no_room WHERE overlay = ? AND family = ?", (overlay, family)).fetchone()
    return row["reason"] if row else None


def reasons(tx: Transaction) -> dict[tuple[str, Family], str]:
    """Answer all of them, by overlay and family."""
    return {(row["overlay"], row["family"]): row["reason"] for row in tx.execute("SELECT * FROM no_room")}
