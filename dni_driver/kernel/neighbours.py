# SPDX-License-Identifier: Apache-2.0
"""Whether anybody answers at an address: asked of the kernel's neighbour table, no packet of our own is sent."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence

from pyroute2.iproute import IPRoute
from pyroute2.netlink.rtnl.ndmsg import NTF_USE, NUD_DELAY, NUD_FAILED, NUD_NONE, NUD_PROBE, NUD_REACHABLE, NUD_STALE

from dni_driver.core.overlays import Address
from dni_driver.kernel import routes
from dni_driver.kernel.netlink.conversation import Message, conversation, tolerating

_ALIVE = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE
_PATIENCE = 1.5
"""Seconds: the kernel asks a second time after one, and the first is lost on a port that has just come up."""
_PAUSE = 0.02


def answers(address: Address) -> bool:
    """Tell whether somebody answers ARP or neighbour discovery for an on-link address, asked twice."""
    link = routes.on_link(address)
    if link is None:
        return False
    neighbour: dict[str, str | int] = {"dst": str(address), "ifindex": link}
    with conversation() as kernel:
        with tolerating(errno.ENOENT):
            kernel.neigh("del", **neighbour)
        kernel.neigh("replace", state=NUD_NONE, flags=NTF_USE, **neighbour)
        return _resolved(kernel, neighbour)


def _resolved(kernel: IPRoute, neighbour: dict[str, str | int]) -> bool:
    give_up = time.monotonic() + _PATIENCE
    while time.monotonic() < give_up:
        state, known = _look(kernel, neighbour)
        if known and state & _ALIVE:
            return True
        if state & NUD_FAILED:
            return False
        time.sleep(_PAUSE)
    return False


def _look(kernel: IPRoute, neighbour: dict[str, str | int]) -> tuple[int, bool]:
    """Answer a neighbour's state, and whether its link-layer address is known."""
    found: Sequence[Message] = ()
    with tolerating(errno.ENOENT):
        found = kernel.neigh("get", **neighbour)
    return next(((answer["state"], answer.get("lladdr") is not None) for answer in found), (NUD_NONE, False))
