# SPDX-License-Identifier: Apache-2.0
"""The whole store as one value, for reconcile, check and the collector."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import msgspec

from dni_driver.core.records import Records
from dni_driver.store import (
    Store,
    addresses,
    cni,
    endpoints,
    hosting,
    local_subnets,
    networks,
    overlays,
    peers,
    pools,
    ports,
    reservations,
)
from dni_driver.store.complaints import damaged
from dni_driver.store.database import Transaction


def open_sound(path: Path) -> Store:
    """Open a store and read all of it; raise StoreError where something in it cannot be read."""
    with ExitStack() as undo:
        store = Store(path)
        undo.callback(store.close)
        read_all(store)
        undo.pop_all()
    return store


def read_all(store: Store) -> Records:
    """Answer everything the store holds at this moment; raise StoreError where something cannot be read."""
    try:
        with store.read() as tx:
            return read(tx)
    except (ValueError, msgspec.MsgspecError) as error:
        raise damaged(store.path, str(error)) from error


def read(tx: Transaction) -> Records:
    """Answer everything the store holds, as a transaction sees it."""
    others = peers.every(tx)
    return Records(
        overlays=overlays.every(tx),
        agent_subnets=overlays.agent_subnets(tx),
        pools=pools.every(tx),
        addresses=addresses.every(tx),
        networks=networks.every(tx),
        endpoints=endpoints.every(tx),
        reservations=reservations.every(tx),
        local_subnets=local_subnets.every(tx),
        ports=ports.every(tx),
        cni_networks=cni.networks(tx),
        cni_endpoints=cni.endpoints(tx),
        agent=overlays.agent_ip(tx),
        hosting=hosting.get(tx),
        vtep=peers.vtep(tx) if others else None,
        peers=others,
    )
