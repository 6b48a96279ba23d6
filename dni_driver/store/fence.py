# SPDX-License-Identifier: Apache-2.0
"""Whether this host may hand out addresses: what it holds may be another's by now.

Until when it may without having heard of the registry, where others may reclaim them; and not at all, of an overlay
or of any, once the registry has said that another host holds what this one has.

Until when is recorded by two clocks, and the first that says so ends it: that of the wall, which somebody may set
back, and that of the time since boot, which a reboot sets back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from dni_driver.core.errors import Unavailable
from dni_driver.store import meta
from dni_driver.store.database import Transaction

_KEY = "fence"
_SINCE_BOOT = "fence since boot"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_DISPUTE = "dispute"


def put(tx: Transaction, now: float, seconds: float) -> None:
    """Record for how long from now, which is in seconds since 1970."""
    meta.put(tx, _KEY, repr(now + seconds))
    meta.put(tx, _SINCE_BOOT, f"{_boot()} {uptime() + seconds!r}")


def is_within(tx: Transaction, now: float, seconds: float) -> bool:
    """Tell whether it is for so long at the most, by both clocks."""
    until, since_boot = _recorded(tx)
    return until <= now + seconds and since_boot <= uptime() + seconds


def shorten(tx: Transaction, now: float, seconds: float) -> None:
    """Record that it is for so long at the most: by neither clock longer than it was."""
    until, since_boot = _recorded(tx)
    meta.put(tx, _KEY, repr(min(now + seconds, until)))
    meta.put(tx, _SINCE_BOOT, f"{_boot()} {min(uptime() + seconds, since_boot)!r}")


def _recorded(tx: Transaction) -> tuple[float, float]:
    """Answer until when by either clock, infinity where that says nothing."""
    known = meta.find_some(tx, _KEY, _SINCE_BOOT)
    boot, _, since_boot = known.get(_SINCE_BOOT, "").partition(" ")
    return float(known.get(_KEY, "inf")), float(since_boot) if boot == _boot() else float("inf")


def find(tx: Transaction) -> float | None:
    """Answer until when by the clock of the wall; None: for ever."""
    text = meta.find(tx, _KEY)
    return float(text) if text else None


def drop(tx: Transaction) -> None:
    """Record that nothing is reclaimed."""
    meta.drop(tx, _KEY)
    meta.drop(tx, _SINCE_BOOT)


def since(tx: Transaction, now: float) -> float | None:
    """Answer since when nothing may be handed out any more; None where it may."""
    return _since(meta.find_some(tx, _KEY, _SINCE_BOOT), now)


def _since(found: Mapping[str, str], now: float) -> float | None:
    if _KEY not in found:
        return None
    over = max(now - float(found[_KEY]), _over(found.get(_SINCE_BOOT, "")))
    return now - over if over > 0 else None


def _over(text: str) -> float:
    """Answer how many seconds ago it ended by the time since boot; of another boot that says nothing."""
    boot, _, until = text.partition(" ")
    return uptime() - float(until) if boot == _boot() else float("-inf")


def uptime() -> float:
    """Answer the seconds since boot, those asleep too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@cache
def _boot() -> str:
    return _BOOT.read_text(encoding="ascii").strip()


def dispute(tx: Transaction, why: str, overlay: str = "") -> None:
    """Record that another host holds what this one has of an overlay, or of all of them."""
    meta.put(tx, _dispute(overlay), why)


def settle(tx: Transaction, overlay: str = "") -> None:
    """Record that what this host has is its own."""
    meta.drop(tx, _dispute(overlay))


def disputed(tx: Transaction, overlay: str = "") -> str | None:
    """Answer why it is not."""
    return meta.find(tx, _dispute(overlay))


def disputes(tx: Transaction) -> dict[str, str]:
    """Answer why of everything that is in dispute, by overlay; under an empty name that of all of them."""
    rows = tx.execute("SELECT key, value FROM meta WHERE key = ? OR key LIKE ?", (_DISPUTE, f"{_DISPUTE} %"))
    return {row["key"].removeprefix(_DISPUTE).lstrip(): row["value"] for row in rows}


def _dispute(overlay: str) -> str:
    return f"{_DISPUTE} {overlay}".rstrip()


def check(tx: Transaction, overlay: str, now: float) -> None:
    """Raise Unavailable where no address of an overlay may be handed out any more."""
    why = closing(tx, overlay, now)
    if why is not None:
        raise why


def closing(tx: Transaction, overlay: str, now: float) -> Unavailable | None:
    """Answer why no address of an overlay may be handed out any more; None where they may."""
    found = meta.find_some(tx, _DISPUTE, _dispute(overlay), _KEY, _SINCE_BOOT)
    why = found.get(_DISPUTE) or found.get(_dispute(overlay))
    if why is not None:
        return Unavailable(f"this host hands out no new addresses of overlay {overlay!r}: {why}")
    ended = _since(found, now)
    return None if ended is None else closed(ended)


def closed(ended: float) -> Unavailable:
    """Build the error of a host that was away for too long; `ended` in seconds since 1970."""
    since_when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ended))
    return Unavailable(
        f"this host hands out no new addresses since {since_when}: it has not reached the registry for half of "
        f"registry.reclaim_after, and others may soon be given its agent subnets; `dni status` says what is wrong"
    )
