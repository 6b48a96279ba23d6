# SPDX-License-Identifier: Apache-2.0
"""What the kernel keeps of other agents, entry by entry: what each entry is about, and what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

import msgspec

Kind = Literal["neighbour", "forwarding", "route", "agent route", "rule", "guest subnet", "guest agent"]
"""neighbour      a VTEP address, and the MAC it has
forwarding     the MAC of a VTEP, and the agent IP it is reached by
route          an agent subnet, and the way there
agent route    an agent IP, and the way there from containers (table 42)
rule           an overlay's subnet, and the table its containers look in first
guest subnet   an agent subnet's first address, which the firewall lets in from the underlay
guest agent    an agent IP, likewise, or a VTEP's address under which such an agent sends IPv4
"""

Key = tuple[Kind, str]
"""What an entry is about: the kernel has one of these at the most."""

Entries = Mapping[Key, str]

_FEW = 3


class Difference(msgspec.Struct, frozen=True):
    """What is to be put into the kernel, in place of what may be there, and what is to be deleted."""

    put: dict[Key, str]
    gone: dict[Key, str]

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self.put or self.gone)


def difference(wanted: Entries, there: Entries) -> Difference:
    """Answer what makes of the entries that are there the wanted ones."""
    return Difference(
        put={key: value for key, value in wanted.items() if there.get(key) != value},
        gone={key: value for key, value in there.items() if key not in wanted},
    )


def in_words(entries: Entries) -> str:
    """Name a few entries, and count many: `route 9.0.2.0/24 via 44.128.0.2 dev vtep1024`, `2000 routes`."""
    if len(entries) <= _FEW:
        return ", ".join(f"{kind} {of} {value}".rstrip() for (kind, of), value in entries.items())
    counts = Counter(kind for kind, _ in entries)
    return ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items())
