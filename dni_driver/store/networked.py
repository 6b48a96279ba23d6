# SPDX-License-Identifier: Apache-2.0
"""Which overlays have had their Docker network on this host, and whether the agent made it."""

from __future__ import annotations

from collections.abc import Iterator

from dni_driver.core.overlays import Overlay
from dni_driver.store import leaving, networks, overlays, pools
from dni_driver.store.database import Transaction


def note(tx: Transaction, overlay: str, *, made: bool) -> None:
    """Record that an overlay has, or is to do without, its Docker network; an unknown overlay has none."""
    tx.execute(
        "INSERT INTO networked SELECT name, ? FROM overlay WHERE name = ? "
        "ON CONFLICT (overlay) DO UPDATE SET made = max(made, excluded.made)",
        (made, overlay),
    )


def forget(tx: Transaction, overlay: str) -> None:
    """Have the agent make an overlay's Docker network as if the overlay were new."""
    tx.execute("DELETE FROM networked WHERE overlay = ?", (overlay,))


def is_made(tx: Transaction, overlay: str) -> bool:
    """Tell whether the agent has made an overlay's Docker network; also where Docker is still about it."""
    found = tx.execute(
        "SELECT 1 FROM networked WHERE overlay = ?1 AND made "
        "UNION ALL SELECT 1 FROM network WHERE overlay = ?1 AND json_extract(options, '$.is_agents')",
        (overlay,),
    ).fetchone()
    return found is not None


def due(tx: Transaction, now: float) -> Iterator[Overlay]:
    """Answer the overlays that never had a Docker network here, could have one, and for which none is under way."""
    known = {row["overlay"] for row in tx.execute("SELECT overlay FROM networked")}
    under_way = {pool.overlay for pool in pools.every(tx) if pool.trial or pool.is_wanted(now)}
    under_way |= leaving.every(tx).keys()
    held = {one.overlay for one in overlays.agent_subnets(tx)}
    for overlay in overlays.every(tx):
        is_new = overlay.name not in known and not networks.is_of(tx, overlay.name)
        if is_new and overlay.name in held and overlay.name not in under_way:
            yield overlay
