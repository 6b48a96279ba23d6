# SPDX-License-Identifier: Apache-2.0
"""What a process does about other agents: the agent keeps them known to the kernel, others leave that to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dni_driver.core.data_plane.entries import Entries
from dni_driver.core.wanted import Wanted
from dni_driver.kernel.ledger import Ledger
from dni_driver.kernel.peers.standing import Standing


class Neighbourhood(Protocol):
    """The peers of this network namespace; its callers hold the lock of `Kernel`."""

    def settle(self, wanted: Wanted, ledger: Ledger) -> None:
        """Make VTEP and entries as wanted; raise KernelError where this agent stands nowhere."""

    def guests(self) -> Entries | None:
        """Answer whom the firewall is to let in, as of the last `settle`; None: whom it lets in already."""

    def differences(self, wanted: Wanted) -> list[tuple[str, str]]:
        """Answer in words what is missing or different, each with what it is about."""

    def close(self) -> None:
        """Listen to the kernel no longer."""


Founding = Callable[[Standing, Callable[[], float]], Neighbourhood]
"""How a neighbourhood begins: with where this agent stands, and a clock in seconds."""


class LeftToTheAgent:
    """Stands in for `Peers` where another process keeps them, however many there are."""

    def __init__(self, standing: Standing, clock: Callable[[], float]) -> None:
        """Need neither."""

    def settle(self, wanted: Wanted, ledger: Ledger) -> None:
        """Leave VTEP and entries as they are."""

    def guests(self) -> Entries | None:
        """Answer None: whom the agent had let in."""
        return None

    def differences(self, wanted: Wanted) -> list[tuple[str, str]]:  # noqa: ARG002 - whatever is wanted
        """Answer none: what there should be only the agent knows."""
        return []

    def close(self) -> None:
        """Hear nothing anyway."""
