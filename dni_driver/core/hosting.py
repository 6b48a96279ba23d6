# SPDX-License-Identifier: Apache-2.0
"""What somebody else's network software does on this host, which dni then leaves to it."""

from __future__ import annotations

import msgspec


class Hosting(msgspec.Struct, frozen=True, kw_only=True):
    """What DC/OS does for overlays here; nothing, where dni is alone.

    `carries`: it keeps the VTEP and the ways to other hosts. `masqueraded` are the overlays whose containers leave
    under this host's name by a rule of Mesos; `vtep_mtu` is the MTU in bytes of that VTEP, where one is configured.
    """

    carries: bool = False
    masqueraded: frozenset[str] = frozenset()
    vtep_mtu: int | None = None
