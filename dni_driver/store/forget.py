# SPDX-License-Identifier: Apache-2.0
"""Forgetting what Docker no longer has, with everything recorded under it."""

from __future__ import annotations

from dni_driver.core.overlays import FAMILIES
from dni_driver.core.records import pool_id
from dni_driver.store import addresses, endpoints, networks, pools
from dni_driver.store.database import Transaction


def forget_endpoint(tx: Transaction, endpoint: str, now: float) -> None:
    """Forget an endpoint that is gone for good, and free its addresses."""
    for record in addresses.of_endpoint(tx, endpoint):
        addresses.free(tx, record.pool, record.address, now)
    endpoints.remove(tx, endpoint)


def forget_network(tx: Transaction, network: str, now: float) -> list[str]:
    """Forget a network, its reservations, and endpoints that dockerd never deleted; answer those endpoints."""
    overlay = networks.find(tx, network).overlay
    left = [endpoint.id for endpoint in endpoints.of_network(tx, network)]
    for endpoint in left:
        forget_endpoint(tx, endpoint, now)
    for family in FAMILIES:
        addresses.free_pool(tx, pool_id(overlay, family), now)
    pools.clear_uses(tx, overlay)
    networks.remove(tx, network)
    return left
