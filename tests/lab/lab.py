# SPDX-License-Identifier: Apache-2.0
"""The lab: hosts with real Docker Engines on one machine, and no trace of them afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import addresses, engines, image, runs, wiring
from tests.lab.errors import LabError
from tests.lab.host import Host
from tests.lab.machine import Machine
from tests.lab.node import Node
from tests.lab.outside import Outside


class Lab:
    """A context manager: `hosts` on one link, each with a dockerd of version `engine`, and `outside`.

    With `dockerd=False` the hosts come up without Docker running. Host `h1` is on port `p-h1` of `switch`.
    `machines` are on the link as well: hosts that systemd runs, with the same engine. So are `servers`, nodes without
    Docker, `z1` and so on.
    """

    hosts: list[Host]
    machines: list[Machine]
    servers: list[Node]
    outside: Outside
    switch: Node

    def __init__(
        self, *, hosts: int = 1, machines: int = 0, servers: int = 0, engine: str = "20.10", dockerd: bool = True
    ) -> None:
        """Make nothing yet."""
        if not 1 <= hosts + machines <= addresses.MOST_HOSTS:
            raise LabError(f"a lab has 1 to {addresses.MOST_HOSTS} hosts, not {hosts + machines}")
        if servers > addresses.MOST_SERVERS:
            raise LabError(f"a lab has no more than {addresses.MOST_SERVERS} servers, not {servers}")
        self._number_of_hosts = hosts
        self._number_of_machines = machines
        self._number_of_servers = servers
        self._engine = engine
        self._dockerd = dockerd
        self._removal = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Clear what dead labs left, and bring this one up; what a failure leaves half made is taken away."""
        if os.geteuid() != 0:
            raise LabError("the lab needs root: it makes namespaces and runs dockerd")
        _expect_bridge_netfilter()
        runs.sweep()
        with contextlib.ExitStack() as removal:
            self._bring_up(removal)
            self._removal = removal.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take everything away, whatever fails on the way."""
        self._removal.close()

    @staticmethod
    def sweep() -> list[Path]:
        """Clear what labs have left whose process is gone; the directories they had."""
        return runs.sweep()

    def _bring_up(self, removal: contextlib.ExitStack) -> None:
        engine_root = engines.root_of(self._engine)
        image_archive = image.archive(engines.cache())
        directory = runs.new_directory()
        removal.callback(runs.clear, directory)

        self.switch = Node("switch", directory)
        self.outside = Outside(directory)
        self.hosts = [
            Host(number, directory, engine_root=engine_root, image_archive=image_archive)
            for number in range(self._number_of_hosts)
        ]
        self.machines = [
            Machine(len(self.hosts) + number, directory, engine_root=engine_root, image_archive=image_archive)
            for number in range(self._number_of_machines)
        ]
        self.servers = [_server(number, directory) for number in range(self._number_of_servers)]
        for node in (self.switch, self.outside, *self.servers, *self.hosts, *self.machines):
            removal.callback(node.remove)
            node.boot()
        self._connect()
        self.outside.start_echo()
        if self._dockerd:
            self._start_dockerds()

    def _connect(self) -> None:
        wiring.make_switch(self.switch)
        for node in (self.outside, *self.servers, *self.hosts, *self.machines):
            wiring.plug_in(self.switch, node)
        wiring.stand_for_the_world(self.outside)
        for host in (*self.hosts, *self.machines):
            wiring.route_by_outside(host)

    def _start_dockerds(self) -> None:
        """All at once: they are waited for after the last is started."""
        for host in self.hosts:
            host.launch_dockerd()
        for host in self.hosts:
            host.wait_for_dockerd()
        for machine in self.machines:
            machine.start_docker()


def _server(number: int, directory: Path) -> Node:
    address, address6 = addresses.of_server(number)
    return Node(f"z{number + 1}", directory, address=address, address6=address6)


def _expect_bridge_netfilter() -> None:
    """Have the kernel show bridged frames to iptables, as on a Docker host that has run for a while."""
    present = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not present.exists() and shutil.which("modprobe") is not None:
        subprocess.run(["modprobe", "br_netfilter"], check=False)
    if not present.exists():
        raise LabError("the kernel has no br_netfilter: modprobe br_netfilter")
