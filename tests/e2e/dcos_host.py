# SPDX-License-Identifier: Apache-2.0
"""What DC/OS does on a lab host: its Mesos agent answers, its overlay module and dcos-net run their commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests import mesos_agent
from tests.e2e import host_state
from tests.lab import Host
from tests.lab.node import REPOSITORY

RESOLVER = "198.51.100.1"
"""Where each host of DC/OS answers names."""

_NAME_SERVER = REPOSITORY / "tests/lab/name_server.py"
_RETURN_FIRST = "iptables -w -D {0} -j RETURN; iptables -w -I {0} 1 -j RETURN"
_MASQUERADE = "POSTROUTING -s 9.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE"
_HALVES_OF_THE_WORLD = ("0.0.0.0/1", "128.0.0.0/1", "127.0.0.0/1")
_IPMASQ = (
    "ipset create -exist overlay hash:net counters",
    *(f"ipset add -exist overlay {half}" for half in _HALVES_OF_THE_WORLD),
    "ipset add -exist overlay 9.0.0.0/8 nomatch",
    f"iptables -w -t nat -C {_MASQUERADE} || iptables -w -t nat -A {_MASQUERADE}",
)
_UNDONE = (
    f"iptables -w -t nat -D {_MASQUERADE}",
    "ipset destroy overlay",
    "iptables -w -D DOCKER-ISOLATION-STAGE-2 -j RETURN",
)


class Mesos:
    """The Mesos agent of a host, on the host's own address; `url` is what registry.url says for it."""

    def __init__(self, host: Host) -> None:
        """Be away."""
        self._host = host
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"mesos://{host.address}:5051"

    def start(self, *overlays: dict[str, Any]) -> None:
        """Begin anew, and answer with these overlays; with none as long as it has not registered."""
        self.stop()
        answer = mesos_agent.agent(*overlays, ip=self._host.address)
        argv = (sys.executable, "-m", "tests.mesos_agent", self._host.address, "5051", json.dumps(answer))
        self._process = self._host.spawn(*argv, log=self._host.directory / "mesos.log")

    def stop(self) -> None:
        """Be away."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@contextmanager
def mesos_on(host: Host) -> Iterator[Mesos]:
    """Give a Mesos agent to a host that knows of no overlay; afterwards neither is there."""
    host.stop_dni()
    host.run("sh", "-c", "rm -rf /var/lib/dni/* /run/dni/*")
    mesos = Mesos(host)
    try:
        yield mesos
    finally:
        mesos.stop()
        if host_state.dni_runs(host):
            host_state.clear(host)
        host_state.reset(host)


def run_module(host: Host) -> None:
    """Run what the overlay module runs with `docker_bridge` on, where a network of the overlay's name is there."""
    host.docker("network", "inspect", "dcos")
    if host.try_run("sh", "-c", _RETURN_FIRST.format("DOCKER-ISOLATION")).returncode != 0:
        host.run("sh", "-c", _RETURN_FIRST.format("DOCKER-ISOLATION-STAGE-2"))
    for line in _IPMASQ:
        host.run("sh", "-c", line)


def undo_module(host: Host) -> None:
    """Take its rules away again, which it never does."""
    for line in _UNDONE:
        host.run("sh", "-c", line)


@contextmanager
def names_on(host: Host, name: str) -> Iterator[None]:
    """Have the host's own name server answer where DC/OS has one, knowing one name: the host's."""
    host.run("ip", "addr", "add", f"{RESOLVER}/32", "dev", "lo")
    argv = (sys.executable, "-I", "-S", str(_NAME_SERVER), RESOLVER, name, host.address)
    process = host.spawn(*argv, log=host.directory / "names.log")
    try:
        yield
    finally:
        process.kill()
        process.wait(10)
        host.run("ip", "addr", "del", f"{RESOLVER}/32", "dev", "lo")
