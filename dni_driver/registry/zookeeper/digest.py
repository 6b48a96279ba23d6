# SPDX-License-Identifier: Apache-2.0
"""All agents' records in a few nodes, each as of a place in the journal.

They save a newcomer a question for each agent. Any follower may write them, as it has all records in memory; one at a
time does. A page that is old is no harm as long as the journal goes back to its place: what is read there afterwards
says the same again, or something newer.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address

import msgspec

from dni_driver.core.errors import DniError, StoreError
from dni_driver.core.overlays import Address
from dni_driver.registry.zookeeper.damage import understood
from dni_driver.registry.zookeeper.layout import DIGESTS, SHARDS, Record, encode, shard_of_agent
from dni_driver.registry.zookeeper.link import Conflict, Link

WORTHWHILE = 128
"""Agents: with fewer, their records themselves are read as quickly."""
EVERY = 128
"""Entries of the journal between two digests."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The records of some agents by their IPs, as of the journal's entry `place` that was still to come."""

    place: int
    records: dict[str, Record] = {}

    def __post_init__(self) -> None:
        """Raise ValueError where an agent IP is none."""
        for agent in self.records:
            ip_address(agent)


class Digest:
    """Reads and writes the pages. For one thread alone."""

    def __init__(self, link: Link) -> None:
        """Do nothing yet."""
        self._link = link

    def read(self) -> Page | None:
        """Answer all records, as of the oldest page's place; None where there is no digest, or no whole one."""
        if not self._link.exists(DIGESTS):
            return None
        found = self._link.every([_path(number) for number in range(SHARDS)])
        pages: list[Page] = []
        with suppress(StoreError):
            pages = [understood(self._link.address, one.data, Page, DIGESTS) for one in found if one is not None]
        if len(pages) < SHARDS:
            return None
        records = {agent: record for page in pages for agent, record in page.records.items()}
        return Page(place=min(page.place for page in pages), records=records)

    def renew(self, place: int, records: Mapping[Address, Record]) -> None:
        """Write all pages, unless somebody else has not long ago, or is about to; where that fails, others will."""
        with suppress(DniError):
            if len(records) >= WORTHWHILE and self._is_mine(place):
                self._write(place, records)

    def _write(self, place: int, records: Mapping[Address, Record]) -> None:
        pages: list[dict[str, Record]] = [{} for _ in range(SHARDS)]
        for agent, record in records.items():
            pages[shard_of_agent(agent)][str(agent)] = record
        self._link.put_each(
            {_path(number): encode(Page(place=place, records=page)) for number, page in enumerate(pages)}
        )

    def _is_mine(self, place: int) -> bool:
        """Note that this place is written now, where nobody has noted one near it; who is second finds it noted."""
        self._link.make_folders([DIGESTS])
        noted = self._link.get(DIGESTS)
        if noted is None or (noted.data.isdigit() and int(noted.data) > place - EVERY):
            return False
        changes = self._link.transaction()
        changes.put(DIGESTS, str(place).encode(), noted.version)
        with suppress(Conflict):
            self._link.commit(changes)
            return True
        return False


def _path(number: int) -> str:
    return f"{DIGESTS}/{number:02d}"
