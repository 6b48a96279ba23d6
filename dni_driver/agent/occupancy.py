# SPDX-License-Identifier: Apache-2.0
"""What on this host uses an overlay."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dni_driver.core.errors import InUse, Unavailable
from dni_driver.core.overlays import FAMILIES
from dni_driver.core.records import mesos_pool_id, pool_id
from dni_driver.mesos.host_local import DATA_DIRECTORIES, occupied
from dni_driver.store import (
    Transaction,
    addresses,
    fence,
    hosting,
    networked,
    networks,
    overlays,
    pools,
    reservations,
)
from dni_driver.store.addresses import describe


def check_vacant(tx: Transaction, overlay: str, now: float) -> None:
    """Raise InUse, naming what uses an overlay and how to end that; nothing raised: it can be removed."""
    network = networks.of_overlay(tx, overlay)
    if network is not None:
        raise InUse(
            f"overlay {overlay!r} has the Docker network {network.label!r} on this host: remove that first "
            f"(docker network rm {network.label})"
        )
    check_unused(tx, overlay)
    if any(pool.overlay == overlay and pool.is_wanted(now) for pool in pools.every(tx)):
        raise InUse(f"a Docker network is being created on overlay {overlay!r}: try again when that is done")


def check_unused(tx: Transaction, overlay: str) -> None:
    """Raise InUse, naming what uses the addresses of an overlay, whether or not it has a Docker network.

    Where Mesos gives the agent subnets, its half and the containers there are its own affair.
    """
    for pool in [name(overlay, family) for name in (pool_id, mesos_pool_id) for family in FAMILIES]:
        taken = addresses.first_taken(tx, pool)
        if taken is not None:
            raise InUse(
                f"address {taken.address} of overlay {overlay!r} is in use by {describe(taken)}: end that "
                f"first; if nothing has it, `dni repair` frees it"
            )
    for one in reservations.of_overlay(tx, overlay):
        raise InUse(
            f"overlay {overlay!r} has reserved addresses ({one}): release them first (dni address release {overlay} "
            f"{one})"
        )
    if not hosting.get(tx).carries:
        check_host_local(overlay, DATA_DIRECTORIES)


def check_host_local(overlay: str, directories: Iterable[Path]) -> None:
    """Raise InUse where host-local has given addresses of an overlay to containers, or where that cannot be told."""
    try:
        held = sorted(occupied(overlay, directories), key=str)
    except Unavailable as error:
        raise InUse(f"overlay {overlay!r} may be in use by containers of CNI's host-local: {error}") from None
    if held:
        raise InUse(
            f"addresses of overlay {overlay!r} are held by containers of CNI's host-local ({len(held)}, such as "
            f"{held[0]}): stop them first"
        )


def used_overlays(tx: Transaction, now: float) -> set[str]:
    """Answer the overlays that something on this host uses; a network that the agent made is no use by itself."""
    return {overlay.name for overlay in overlays.every(tx) if _is_used(tx, overlay.name, now)}


def forget_vacant(tx: Transaction, overlay: str, now: float) -> None:
    """Take an overlay out of the store, if nothing uses it; raise InUse."""
    check_vacant(tx, overlay, now)
    overlays.remove(tx, overlay)
    fence.settle(tx, overlay)


def check_idle(tx: Transaction, overlay: str, now: float) -> None:
    """Raise InUse, naming what uses an overlay; a network that the agent made is no use by itself."""
    if networked.is_made(tx, overlay):
        check_unused(tx, overlay)
    else:
        check_vacant(tx, overlay, now)


def _is_used(tx: Transaction, overlay: str, now: float) -> bool:
    try:
        check_idle(tx, overlay, now)
    except InUse:
        return True
    return False
