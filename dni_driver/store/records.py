# SPDX-License-Identifier: Apache-2.0
"""The whole store as one value, for reconcile, check and the collector."""

from __future__ import annotations

from dni_driver.core.records import Records
from dni_driver.store import Store, addresses, endpoints, local_subnets, networks, overlays, pools, reservations
from dni_driver.store.database import Transaction


def read_all(store: Store) -> Records:
    """Answer everything the store holds at this moment."""
    with store.read() as tx:
        return read(tx)


def read(tx: Transaction) -> Records:
    """Answer everything the store holds, as a transaction sees it."""
    return Records(
        overlays=overlays.every(tx),
        agent_subnets=overlays.agent_subnets(tx),
        pools=pools.every(tx),
        addresses=addresses.every(tx),
        networks=networks.every(tx),
        endpoints=endpoints.every(tx),
        reservations=reservations.every(tx),
        local_subnets=local_subnets.every(tx),
    )
