# SPDX-License-Identifier: Apache-2.0
"""The Mesos agent that tells this host its part of the overlays, as people write it: `mesos://10.0.0.1:5051`."""

from __future__ import annotations

import msgspec

from dni_driver.core.errors import Refused
from dni_driver.core.host_port import read_host_port

SCHEME = "mesos://"
PORT = 5051
_LARGEST_PORT = 65535


class MesosAddress(msgspec.Struct, frozen=True):
    """Where a Mesos agent answers HTTP; `host` is a name or an address, an IPv6 one without brackets."""

    host: str
    port: int = PORT

    def __str__(self) -> str:
        """Write it as a person does."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}{host}:{self.port}"


def read_mesos_address(url: str) -> MesosAddress:
    """Answer which Mesos agent is meant; raise Refused saying how to write it."""
    found = read_host_port(url.removeprefix(SCHEME).removesuffix("/")) if url.startswith(SCHEME) else None
    port = PORT if found is None or found.port is None else found.port
    if found is None or not 0 < port <= _LARGEST_PORT:
        raise Refused(f"{url[:80]!r} names no Mesos agent: write it like {SCHEME}10.0.0.1:{PORT}")
    return MesosAddress(found.host.strip("[]"), port)
