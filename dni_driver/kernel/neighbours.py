# SPDX-License-Identifier: Apache-2.0
"""Whether anybody answers at an address: asked of the kernel's neighbour table, no packet of our own is sent."""

from __future__ import annotations

import struct
import time

from dni_driver.core.overlays import Address
from dni_driver.kernel import routes
from dni_driver.kernel.netlink import CREATE, REPLACE, Message, Netlink, raw

NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
_HEADER = struct.Struct("=BxxxiHBB")
"""Family, link, state, flags, type."""
_FAMILIES = {4: 2, 6: 10}
_ADDRESS, _LINK_ADDRESS = 1, 2
_REACHABLE, _STALE, _DELAY, _PROBE, _FAILED = 0x02, 0x04, 0x08, 0x10, 0x20
_ALIVE = _REACHABLE | _STALE | _DELAY | _PROBE
_USE = 0x01
_PATIENCE = 1.0
_PAUSE = 0.02


def answers(address: Address) -> bool:
    """Tell whether somebody answers ARP or neighbour discovery for an on-link address, within a second."""
    link = routes.on_link(address)
    if link is None:
        return False
    with Netlink() as kernel:
        kernel.attempt(Message(DELNEIGH, 0, _body(address, link)))
        kernel.ask(Message(NEWNEIGH, CREATE | REPLACE, _body(address, link, flags=_USE)))
        return _resolved(kernel, address, link)


def _resolved(kernel: Netlink, address: Address, link: int) -> bool:
    give_up = time.monotonic() + _PATIENCE
    while time.monotonic() < give_up:
        state, known = _look(kernel, address, link)
        if known and state & _ALIVE:
            return True
        if state & _FAILED:
            return False
        time.sleep(_PAUSE)
    return False


def _look(kernel: Netlink, address: Address, link: int) -> tuple[int, bool]:
    """Answer a neighbour's state, and whether its link-layer address is known."""
    answer = kernel.get(Message(GETNEIGH, 0, _body(address, link)))
    if answer is None:
        return 0, False
    _, _, state, _, _ = _HEADER.unpack_from(answer.body)
    return state, _LINK_ADDRESS in answer.attributes(_HEADER.size)


def _body(address: Address, link: int, flags: int = 0) -> bytes:
    return _HEADER.pack(_FAMILIES[address.version], link, 0, flags, 0) + raw(_ADDRESS, address.packed)
