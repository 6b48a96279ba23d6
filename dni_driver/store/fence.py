# SPDX-License-Identifier: Apache-2.0
"""Whether this host may hand out addresses: what it holds may be another's by now.

Until when it may without having heard of the registry, where others may reclaim them; and not at all, of an overlay
or of any, once the registry has said that another host holds what this one has.
"""

from __future__ import annotations

import time

from dni_driver.core.errors import Unavailable
from dni_driver.store import meta
from dni_driver.store.database import Transaction

_KEY = "fence"
_DISPUTE = "dispute"


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


def dispute(tx: Transaction, why: str, overlay: str = "") -> None:
    """Record that another host holds what this one has of an overlay, or of all of them."""
    meta.put(tx, _dispute(overlay), why)


def settle(tx: Transaction, overlay: str = "") -> None:
    """Record that what this host has is its own."""
    meta.drop(tx, _dispute(overlay))


def disputed(tx: Transaction, overlay: str = "") -> str | None:
    """Answer why it is not."""
    return meta.find(tx, _dispute(overlay))


def _dispute(overlay: str) -> str:
    return f"{_DISPUTE} {overlay}".rstrip()


def check(tx: Transaction, overlay: str, now: float) -> None:
    """Raise Unavailable where no address of an overlay may be handed out any more."""
    found = meta.find_some(tx, _DISPUTE, _dispute(overlay), _KEY)
    why = found.get(_DISPUTE) or found.get(_dispute(overlay))
    if why is not None:
        raise Unavailable(f"this host hands out no new addresses of overlay {overlay!r}: {why}")
    until = found.get(_KEY)
    if until and now > float(until):
        raise closed(float(until))


def closed(until: float) -> Unavailable:
    """Build the error of a host that was away for too long."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(until))
    return Unavailable(
        f"this host hands out no new addresses since {since}: it has not reached the registry for half of "
        f"registry.reclaim_after, and others may soon be given its agent subnets; `dni status` says what is wrong"
    )
