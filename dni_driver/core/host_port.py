# SPDX-License-Identifier: Apache-2.0
"""A host and perhaps a port, as people write them: `leader.mesos:5050`, `10.0.0.1`, `[fd00::1]:2181`."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

import msgspec

_LABEL = "[A-Za-z0-9_-]{1,63}"
"""Between the dots of a name: none, or a longer one, cannot even be looked up (RFC 1035 section 2.3.4)."""
_SHAPE = re.compile(rf"(?P<host>\[(?P<inner>[0-9A-Fa-f:.]+)\]|{_LABEL}(\.{_LABEL})*\.?)(:(?P<port>[0-9]{{1,5}}))?")


class HostPort(msgspec.Struct, frozen=True):
    """A name or an address, an IPv6 one in its brackets, and the port where one is said: any of five digits."""

    host: str
    port: int | None


def read_host_port(text: str) -> HostPort | None:
    """Read it; None for what is neither."""
    found = _SHAPE.fullmatch(text)
    if found is None or not (found["inner"] is None or _is_ipv6(found["inner"])):
        return None
    return HostPort(found["host"], int(found["port"]) if found["port"] else None)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
