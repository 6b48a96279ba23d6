# SPDX-License-Identifier: Apache-2.0
"""A running plugin, seen from its two sides: the socket dockerd has, and the store and kernel behind it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dni_driver.core.records import AddressState
from dni_driver.store import Store
from dni_driver.store.records import read_all
from tests.contract.dockerd import Dockerd
from tests.contract.engine import Engine
from tests.fakes import AGENT, DCOS, lease
from tests.root.ground import Namespace

PATIENCE = 60.0
"""Seconds until a test gives up waiting."""

_REPOSITORY = Path(__file__).parents[2]
_SWITCHES = ("foreign", "broken", "broken-once", "seconds", "no-agent", "no-ipv6", "programs", "fuse", "no-waiting")
_TABLES = (
    "peer",
    "cni_endpoint",
    "cni_network",
    "port",
    "port_cursor",
    "reservation",
    "address",
    "endpoint",
    "network",
    "cursor",
    "pool",
    "agent_subnet",
    "no_room",
    "networked",
    "local_subnet",
    "overlay",
    "meta",
)
"""In the order in which they can be emptied."""

_MAP = re.compile(r"map (\w+) \{[^{}]*elements = \{([^{}]*)\}")
_EVERYWHERE = {"any4": "0.0.0.0", "any6": "[::]"}

Rows = Mapping[str, list[tuple[Any, ...]]]
"""Every row of every table."""


class Plugin:
    """The plugin of one host; `namespace` is the host's network, None with the kernel in memory."""

    def __init__(self, folder: Path, namespace: Namespace | None = None) -> None:
        """Know where it runs; `running` starts it."""
        self.folder = folder
        self.namespace = namespace
        self.socket = folder / "dni.sock"
        self.store = Store(folder / "dni.db")
        self.process: subprocess.Popen[bytes] | None = None

    # -- what dockerd sees

    def dockerd(self, host: str = "", second: float = 0.01) -> Dockerd:
        """Give a client."""
        return Dockerd(self.socket, host, second)

    def engine(self, version: int = 28) -> Engine:
        """Give a Docker Engine of some version."""
        return Engine(self.dockerd(), version)

    # -- the host

    def bridges(self) -> list[str]:
        """Name dni's bridges that there are."""
        return sorted(name for name in self._devices() if name.startswith("d-"))

    def links(self) -> list[str]:
        """Name the ends of dni's container links that are on the host."""
        return sorted(name for name in self._devices() if name.startswith(("dni", "dnc")))

    def addresses_of(self, bridge: str) -> list[str]:
        """Answer the addresses of a bridge, those the kernel gave it by itself left out."""
        if self.namespace is None:
            return next((line.split()[1:] for line in self._state() if line.split()[0] == bridge), [])
        lines = self.namespace.sh(f"ip -o addr show dev {bridge}").splitlines()
        return [words[3] for line in lines if "link" not in (words := line.split())]

    def _devices(self) -> list[str]:
        if self.namespace is None:
            return [line.split()[0] for line in self._state()]
        lines = self.namespace.sh("ip -o link show").splitlines()
        return [line.split()[1].rstrip(":").partition("@")[0] for line in lines]

    def _state(self) -> list[str]:
        state = self.folder / "state"
        return state.read_text().splitlines() if state.exists() else []

    def ports(self) -> dict[str, str]:
        """Answer which ports lead where, as the kernel has it: `0.0.0.0:80/tcp` to `9.0.0.130 80`."""
        if self.namespace is not None:
            return _elements(self.namespace)
        lines = (line.removeprefix("port:").partition(" ") for line in self._state() if line.startswith("port:"))
        return {at: target for at, _, target in lines}

    def relayed(self) -> dict[str, str]:
        """Answer likewise where the plugin carries callers, of the kernel in memory."""
        lines = (
            line.removeprefix("relayed:").partition(" ") for line in self._state() if line.startswith("relayed:")
        )
        return {at: target for at, _, target in lines}

    def occupy(self, subnet: str) -> None:
        """Put another device of the host on a subnet."""
        if self.namespace is None:
            (self.folder / "foreign").write_text(f"other0 {subnet}")
        else:
            self.namespace.sh("ip link add other0 type bridge", "ip link set other0 up")
            self.namespace.sh(f"ip addr add {subnet} dev other0")

    def tell(self, switch: str, text: str = "") -> None:
        """Have the kernel in memory, or the agent, do as a test says (fake_kernel, plugin_process)."""
        assert switch in _SWITCHES
        (self.folder / switch).write_text(text)

    # -- the store

    def rows(self) -> Rows:
        """Answer everything in the store, to the last byte."""
        return rows_of(self.store)

    def held(self) -> dict[str, str]:
        """Answer what is in use: addresses, pools with their uses, networks, endpoints, overlays."""
        records = read_all(self.store)
        return {
            **{
                f"{each.pool} {each.address}": each.state
                for each in records.addresses
                if each.state is not AddressState.FREE
            },
            **{f"pool {pool.id}": str(pool.uses) for pool in records.pools if pool.uses},
            **{f"network {network.overlay}": network.id for network in records.networks},
            **{f"endpoint {endpoint.id}": endpoint.network for endpoint in records.endpoints},
            **{f"overlay {overlay.name}": str(overlay.subnets()) for overlay in records.overlays},
        }

    # -- from test to test

    def start(self) -> None:
        """Start the process; it answers when this returns. The worker of one that was killed has ended before."""
        eventually(lambda: not self._listens(), "an earlier plugin still listens", self.log)
        kind = "fake" if self.namespace is None else "real"
        words = [sys.executable, "-m", "tests.contract.plugin_process", str(self.folder), kind, str(os.getpid())]
        self.process = self._spawn(words) if self.namespace is None else self.namespace.run(self._spawn, words)
        eventually(self._listens, "the plugin does not listen", self.log)
        self.dockerd(second=1).call("Plugin.Activate")

    def _spawn(self, words: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(words, stdout=log, stderr=log, cwd=_REPOSITORY)

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            finally:
                self.process.kill()
                self.process.wait()

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def reset(self) -> None:
        """Make it as on a new host: the default overlay leased, nothing used, the kernel bare."""
        for switch in _SWITCHES:
            (self.folder / switch).unlink(missing_ok=True)
        self.forget()
        if self.namespace is not None and "other0" in self._devices():
            self.namespace.sh("ip link del other0")
        lease(self.store, DCOS, "9.0.0.0/24")
        # An unknown network is deleted by reconciling.
        self.dockerd().call("NetworkDriver.DeleteNetwork", {"NetworkID": "0" * 64})
        eventually(lambda: not self.links() and not self.bridges(), "devices are left", lambda: str(self._devices()))

    def forget(self) -> None:
        """Empty the store."""
        with self.store.write() as tx:
            tx.execute("PRAGMA defer_foreign_keys = ON")
            for table in _TABLES:
                tx.execute(f"DELETE FROM {table}")  # noqa: S608

    def log(self) -> str:
        """Answer what the plugin has logged."""
        return (self.folder / "log").read_text(errors="replace")


def _elements(namespace: Namespace) -> dict[str, str]:
    """Read which ports lead where, as `nft` lists the elements of dni's table; a map has a key once."""
    if "table inet dni-ports" not in namespace.sh("nft list tables").splitlines():
        return {}
    listed = namespace.sh("nft list table inet dni-ports")
    found = {}
    for name, elements in _MAP.findall(listed):
        for key, target in (element.split(" : ") for element in elements.split(",")):
            *ip, protocol, port = key.split(" . ")
            at = ip[0].strip() if ip else _EVERYWHERE[name]
            found[f"{at}:{port}/{protocol.strip()}"] = target.replace(" . ", " ").strip()
    return found


def rows_of(store: Store) -> Rows:
    """Answer everything in a store, to the last byte."""
    with store.read() as tx:
        return {table: [tuple(row) for row in tx.execute(f"SELECT * FROM {table}")] for table in _TABLES}  # noqa: S608


@contextmanager
def running(folder: Path, namespace: Namespace | None = None) -> Iterator[Plugin]:
    """Run a plugin; whatever happens, end it."""
    plugin = Plugin(folder, namespace)
    try:
        plugin.start()
        yield plugin
    finally:
        plugin.stop()
        plugin.store.close()


def underlay(namespace: Namespace) -> None:
    """Give a namespace the link that carries the agent IP."""
    namespace.sh("ip link add up0 type veth peer name up1", f"ip addr add {AGENT}/24 dev up0")
    namespace.sh("ip link set up0 up", "ip link set up1 up")


def eventually(holds: Callable[[], bool], words: str, details: Callable[[], str] = str) -> None:
    """Wait until something holds; fail with words and details where it does not."""
    ends = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < ends, f"{words}: {details()}"
        time.sleep(0.02)


@contextmanager
def nothing_left(plugin: Plugin, engine: Engine) -> Iterator[None]:
    """Hold what is in use, and the host's devices, against how they were before; the engine logged no error."""
    before = plugin.held(), plugin.bridges()
    yield
    assert (plugin.held(), plugin.bridges()) == before
    eventually(lambda: not plugin.links(), "links are left", lambda: str(plugin.links()))
    assert engine.logged == []
