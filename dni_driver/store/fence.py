# SPDX-License-Identifier: Apache-2.0
"""Until when this host may hand out addresses without having heard of the registry: where others may reclaim them."""

from __future__ import annotations

import time

from dni_driver.core.errors import Unavailable
from dni_driver.store import meta
from dni_driver.store.database import Transaction

_KEY = "fence"


def put(tx: Transaction, until: float) -> None:
    """Record until when, in seconds since 1970."""
    meta.put(tx, _KEY, repr(until))


def find(tx: Transaction) -> float | None:
    """Answer until when; None: for ever."""
    text = meta.find(tx, _KEY)
    return float(text) if text else None


def drop(tx: Transaction) -> None:
    """Record that nothing is reclaimed."""
    meta.drop(tx, _KEY)


def check(tx: Transaction, now: float) -> None:
    """Raise Unavailable where no address may be handed out any more."""
    until = find(tx)
    if until is not None and now > until:
        raise closed(until)


def closed(until: float) -> Unavailable:
    """Build the error of a host that was away for too long."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(until))
    return Unavailable(
        f"this host hands out no new addresses since {since}: it has not reached the registry for half of "
        f"registry.reclaim_after, and others may soon be given its agent subnets; `dni status` says what is wrong"
    )
