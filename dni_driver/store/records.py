# SPDX-License-Identifier: Apache-2.0
"""The whole store as one value, for reconcile, check and the collector."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from dni_driver.core.peers import Peer
from dni_driver.core.records import Records
from dni_driver.store import (
    Store,
    addresses,
    cni,
    endpoints,
    hosting,
    leaving,
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


def open_sound(path: Path, read_store: Callable[[Store], Records]) -> Store:
    """Open a store and read from it what its user will; raise StoreError where some of that cannot be read."""
    with ExitStack() as undo:
        store = Store(path)
        undo.callback(store.close)
        read_store(store)
        undo.pop_all()
    return store


def read_all(store: Store) -> Records:
    """Answer everything the store holds at this moment; raise StoreError where something cannot be read."""
    return _read(store, read)


def read_here(store: Store) -> Records:
    """Answer the same but for the peers, who may be thousands: only the agent has to know them."""
    return _read(store, lambda tx: _with_peers(tx, []))


def _read(store: Store, read_in: Callable[[Transaction], Records]) -> Records:
    try:
        with store.read() as tx:
            return read_in(tx)
    except (ValueError, msgspec.MsgspecError) as error:
        raise damaged(store.path, str(error)) from error


def read(tx: Transaction) -> Records:
    """Answer everything the store holds, as a transaction sees it."""
    return _with_peers(tx, peers.every(tx))


def _with_peers(tx: Transaction, known: list[Peer]) -> Records:
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
        vtep=peers.vtep(tx) if peers.has_any(tx) else None,
        peers=known,
        leaving=leaving.every(tx),
    )
