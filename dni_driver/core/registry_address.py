# SPDX-License-Identifier: Apache-2.0
"""Where the registry is, as people write it: `local`, `zookeeper://h1,h2:2181,h3/dni`, or `mesos://10.0.0.1:5051`."""

from __future__ import annotations

import re

import msgspec

from dni_driver.core.errors import Refused
from dni_driver.core.host_port import read_host_port
from dni_driver.core.mesos import address
from dni_driver.core.mesos.address import MesosAddress

LOCAL = "local"
ALLOWED = (
    '"local", which keeps the registry on this host, or an address such as "zookeeper://h1,h2:2181,h3/dni" or '
    f'"{address.SCHEME}10.0.0.1:{address.PORT}"'
)

_SCHEME = "zookeeper://"
_PORT = 2181
_LARGEST_PORT = 65535
_PATH = "/dni"
_PLACE = re.compile(r"(/[A-Za-z0-9_.-]+)+")


class ZooKeeperAddress(msgspec.Struct, frozen=True):
    """The servers of an ensemble, each `host:port`, and the node below which dni keeps its own."""

    servers: tuple[str, ...]
    path: str

    def __str__(self) -> str:
        """Write it as a person does."""
        return f"{_SCHEME}{','.join(self.servers)}{self.path}"


def read_address(url: str) -> ZooKeeperAddress | MesosAddress | None:
    """Answer which ensemble or Mesos agent is meant, None for the local registry; raise Refused."""
    if url == LOCAL:
        return None
    if url.startswith(address.SCHEME):
        return address.read_mesos_address(url)
    if not url.startswith(_SCHEME):
        raise Refused(f"must be {ALLOWED}")
    servers, slash, path = url.removeprefix(_SCHEME).partition("/")
    if "@" in servers:
        raise Refused("names a user: put that into registry.user, and the password into registry.password")
    return ZooKeeperAddress(tuple(map(_server, servers.split(","))), _place(slash + path))


def _server(text: str) -> str:
    found = read_host_port(text)
    if found is None:
        raise Refused(f"{text!r} is no server: write them like h1,h2:2181,h3")
    port = _PORT if found.port is None else found.port
    if not 0 < port <= _LARGEST_PORT:
        raise Refused(f"{text!r} has no port from 1 to {_LARGEST_PORT}")
    return f"{found.host}:{port}"


def _place(path: str) -> str:
    if path in ("", "/"):
        return _PATH
    place = path.removesuffix("/")
    if _PLACE.fullmatch(place) is None or {".", ".."} & set(place.split("/")) or place.startswith("/zookeeper"):
        raise Refused(f"{path!r} is no place in ZooKeeper: write it like {_PATH}")
    return place
