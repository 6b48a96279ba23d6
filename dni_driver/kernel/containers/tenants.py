# SPDX-License-Identifier: Apache-2.0
"""Which addresses the containers behind links have: asked for when links end, and no record knows any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dni_driver.core.overlays import Address
from dni_driver.core.wanted import Link


class Tenants:
    """The addresses behind links, by host ends, as far as this process has heard. Safe to use from threads."""

    def __init__(self) -> None:
        """Know of none."""
        self._of: dict[str, frozenset[Address]] = {}
        self._missed: frozenset[str] = frozenset()

    def note(self, links: Iterable[Link]) -> None:
        """Take note of links."""
        self._of.update((link.host, frozenset(interface.ip for interface in link.addresses)) for link in links)

    def follow(self, recorded: Iterable[Link]) -> None:
        """Take note of all links that are recorded; those that were not last time either are another's to bury.

        Not at once: a link may be noted before it is recorded, or be about to be buried here.
        """
        links = list(recorded)
        missed = frozenset(self._of).difference(link.host for link in links)
        for host in missed & self._missed:
            self._of.pop(host, None)
        self._missed = missed
        self.note(links)

    def take(self, hosts: Collection[str]) -> set[Address]:
        """Answer the addresses behind links that are gone and that nobody has by now, and forget them."""
        gone = {address for host in hosts for address in self._of.pop(host, ())}
        return gone.difference(*list(self._of.values()))
