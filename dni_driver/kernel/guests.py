# SPDX-License-Identifier: Apache-2.0
"""Who the firewall lets in from the underlay, where the backend is direct: elements of two sets of table `inet dni`.

They come and go with peers, one at a time, and the table stays.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address

from dni_driver.core.entries import Entries, Key
from dni_driver.kernel import nfnetlink
from dni_driver.kernel.nfnetlink import Elements
from dni_driver.kernel.nft import GUEST_SETS, INET

_TRIES = 3


def put(entries: Entries) -> None:
    """Add those among entries that are guests; where there is no table yet, they come with it. Raises OSError."""
    with suppress(FileNotFoundError):
        nfnetlink.add(INET, _keys(entries))


def delete(entries: Entries) -> None:
    """Remove guests; those that are gone already are no error. Raises OSError."""
    unwanted = _keys(entries)
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            nfnetlink.remove(INET, unwanted)
            return
        there = _elements()
        unwanted = {name: keys & there.get(name, frozenset()) for name, keys in unwanted.items()}


def read() -> dict[Key, str]:
    """Answer the guests that the firewall lets in now; none where there is no table."""
    there = _elements()
    return {
        (kind, str(IPv4Address(key))): "" for kind, name in GUEST_SETS.items() for key in there.get(name, frozenset())
    }


def _elements() -> Elements:
    with suppress(OSError):
        return nfnetlink.elements(INET, GUEST_SETS.values())
    return {}


def _keys(entries: Entries) -> Elements:
    keys: dict[str, set[bytes]] = {}
    for kind, of in entries:
        if kind in GUEST_SETS:
            keys.setdefault(GUEST_SETS[kind], set()).add(IPv4Address(of).packed)
    return {name: frozenset(of_set) for name, of_set in keys.items()}
