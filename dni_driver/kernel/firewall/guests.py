# SPDX-License-Identifier: Apache-2.0
"""Who the firewall lets in from the underlay, where the backend is direct: elements of sets of table `inet dni`.

They come and go with peers, one at a time, and the table stays.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address

from dni_driver.core.data_plane.entries import Entries, Key
from dni_driver.kernel.firewall.nft import GUEST_SETS, GUESTS, INET, guest_set
from dni_driver.kernel.netlink import nfnetlink
from dni_driver.kernel.netlink.nfnetlink import Elements

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
        (kind, str(ip_address(key))): ""
        for (kind, _), name in GUEST_SETS.items()
        for key in there.get(name, frozenset())
    }


def _elements() -> Elements:
    found: dict[str, frozenset[bytes]] = {}
    for name in GUEST_SETS.values():
        with suppress(OSError):
            found |= nfnetlink.elements(INET, [name])
    return found


def _keys(entries: Entries) -> Elements:
    keys: dict[str, set[bytes]] = {}
    for kind, of in entries:
        if kind in GUESTS:
            keys.setdefault(guest_set(kind, of), set()).add(ip_address(of).packed)
    return {name: frozenset(of_set) for name, of_set in keys.items()}
