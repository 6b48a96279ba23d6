# SPDX-License-Identifier: Apache-2.0
"""Keeps what this host has to know of other agents: the VTEP, and the entries about each peer.

What changed among the peers is applied as such, however many others there are. All entries are listed and compared
now and then, and when the kernel tells that some may have been lost.
"""

from __future__ import annotations

from collections.abc import Callable
from shutil import which

from dni_driver.core.data_plane.entries import Difference, Entries, Key, difference, in_words
from dni_driver.core.data_plane.paths import Situation
from dni_driver.core.data_plane.plan import Plan
from dni_driver.core.errors import KernelError
from dni_driver.core.names import VTEP_LINK
from dni_driver.core.wanted import Wanted
from dni_driver.kernel.firewall import guests
from dni_driver.kernel.firewall.nft import GUESTS
from dni_driver.kernel.ledger import Ledger
from dni_driver.kernel.netlink.lookout import LINKS, Lookout
from dni_driver.kernel.peers import batches, listing, vtep
from dni_driver.kernel.peers.hearing import Hearing
from dni_driver.kernel.peers.standing import SILENT_CHANGES, Standing
from dni_driver.kernel.peers.vtep import VtepState
from dni_driver.kernel.snapshot import names


class Peers:
    """The peers of this network namespace; its callers hold the lock of `Kernel`."""

    def __init__(self, standing: Standing, clock: Callable[[], float]) -> None:
        """Know nothing yet; the clock gives seconds."""
        self._standing = standing
        self._clock = clock
        self._vtep: Lookout[VtepState | None] = Lookout(vtep.read, LINKS, clock, SILENT_CHANGES)
        self._hearing = Hearing()
        self._plan = Plan()
        self._compared: float | None = None

    def close(self) -> None:
        """Listen to the kernel no longer."""
        for listener in (self._vtep, self._hearing):
            listener.close()

    def guests(self) -> Entries:
        """Answer what the firewall is to let in, as of the last `settle`."""
        return {key: value for key, value in self._plan.entries.items() if key[0] in GUESTS}

    def settle(self, wanted: Wanted, ledger: Ledger) -> None:
        """Make VTEP and entries as wanted; raise KernelError where this agent stands nowhere."""
        situation = self._standing.situation(wanted)
        if situation is None and self._plan.situation is None and self._compared is not None:
            return
        there = self._vtep.look()
        if vtep.mend(situation.device if situation else None, there, ledger):
            self._vtep.forget()
            self._compared = None
        change = self._plan.follow(situation, wanted.peers)
        compared, self._compared = self._compared, None
        with ledger.about("peers"):
            links = self._links(situation)
            if self._hearing.harm(links) or compared is None or self._clock() - compared > SILENT_CHANGES:
                change = self._compare()
                compared = self._clock()
            if change:
                _apply(change, ledger)
                self._hearing.harm(links)
            self._compared = compared

    def _links(self, situation: Situation | None) -> list[int]:
        """Answer the indexes of the links that entries rest on."""
        there = names()
        rested_on = {VTEP_LINK, situation.underlay.link} if situation else {VTEP_LINK}
        return [there[link] for link in rested_on if link in there]

    def _compare(self) -> Difference:
        return difference(self._plan.entries, self._listed())

    def _listed(self) -> dict[Key, str]:
        """List what there is of ours: on a VTEP of ours only."""
        there = self._vtep.look()
        if not self._plan.entries and which("ip") is None:
            return {}
        return listing.read(with_vtep=there is not None and there.is_ours) | guests.read()

    def differences(self, wanted: Wanted) -> list[tuple[str, str]]:
        """Answer in words what is missing or different, each with what it is about."""
        try:
            situation = self._standing.situation(wanted)
        except KernelError as error:
            return [("peers", str(error))]
        there = self._vtep.look()
        if situation is None:
            left = there is not None and there.is_ours
            return [(VTEP_LINK, "is a device of dni that no other agent needs")] if left else []
        plan = Plan()
        plan.follow(situation, wanted.peers)
        wrong = difference(plan.entries, self._listed())
        found = [(VTEP_LINK, fault) for fault in vtep.faults(situation.device, there)]
        if wrong.put:
            found.append(("peers", f"lack in the kernel: {in_words(wrong.put)}"))
        if wrong.gone:
            found.append(("peers", f"are gone, but not from the kernel: {in_words(wrong.gone)}"))
        return found


def _apply(change: Difference, ledger: Ledger) -> None:
    """Put before deleting: what is replaced is replaced at once, and no packet meets a gap.

    What cannot be put keeps nothing from being deleted, and is raised behind that.
    """
    try:
        if change.put:
            guests.put(change.put)
            batches.put(change.put)
            ledger.did(f"peers: put {in_words(change.put)}")
    finally:
        if change.gone:
            batches.delete(change.gone)
            guests.delete(change.gone)
            ledger.did(f"peers: deleted {in_words(change.gone)}")
