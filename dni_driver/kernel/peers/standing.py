# SPDX-License-Identifier: Apache-2.0
"""Where this agent stands among the others: the link that carries its agent IP, looked up again when links change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from dni_driver.core.data_plane.paths import Situation
from dni_driver.core.errors import KernelError
from dni_driver.core.mtu import Underlay
from dni_driver.core.overlays import Address
from dni_driver.core.wanted import Wanted
from dni_driver.kernel import sysctl, whereabouts
from dni_driver.kernel.netlink.lookout import LINKS, Lookout

SILENT_CHANGES = 60.0
"""Seconds that a look is good for: not every change is told."""


class Standing:
    """What the paths to other agents follow from; its callers hold the lock of `Kernel`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Know nothing yet; the clock gives seconds."""
        self._agent: Address | None = None
        self._underlay: Lookout[Underlay | None] = Lookout(self._read_underlay, LINKS, clock, SILENT_CHANGES)

    def close(self) -> None:
        """Listen to the kernel no longer."""
        self._underlay.close()

    def situation(self, wanted: Wanted) -> Situation | None:
        """Answer where this agent stands; None where it is alone. Raises KernelError where its address is nowhere."""
        if wanted.vtep is None:
            return None
        if wanted.agent is None:
            raise KernelError("the agent IP is not known yet")
        if self._agent != wanted.agent:
            self._agent = wanted.agent
            self._underlay.forget()
        underlay = self._underlay.look()
        if underlay is None:
            raise KernelError(f"no link of this host carries the agent IP {wanted.agent}: see `ip address`")
        return Situation(vtep=wanted.vtep, overlays=wanted.overlays, underlay=underlay, ipv6=sysctl.has_ipv6())

    def underlay(self, wanted: Wanted) -> str | None:
        """Answer the link by which other agents on it come directly; None where this agent is alone, or nowhere."""
        with suppress(KernelError):
            situation = self.situation(wanted)
            return situation.underlay.link if situation else None
        return None

    def _read_underlay(self) -> Underlay | None:
        with suppress(KernelError):
            return whereabouts.underlay(self._agent) if self._agent else None
        return None
