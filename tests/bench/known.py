# SPDX-License-Identifier: Apache-2.0
"""Fills a registry with agents that were there once, so that a host knows as many as in a large cluster.

`python -m tests.bench.known URL NUMBER` in a node of the lab that reaches the registry.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from ipaddress import IPv4Address, ip_network
from pathlib import Path

from dni_driver.core.overlays import define
from dni_driver.registry import Access, open_registry
from dni_driver.registry import Host as Agent
from tests.lab import Host, Lab, LabError
from tests.lab.zookeeper import ZooKeeper

MANY = 1000
_FIRST = IPv4Address("198.18.0.1")
_DCOS = define("dcos", [ip_network("9.0.0.0/8")])
_PATIENCE = 120.0


def fill(url: str, number: int) -> None:
    """Register so many agents, each with an agent subnet of the default overlay."""
    with tempfile.TemporaryDirectory() as folder, closing(open_registry(url, Path(folder), Access())) as registry:
        registry.define(_DCOS)
        for place in range(number):
            agent_ip = _FIRST + place
            registry.register(Agent(agent_ip=agent_ip, identity=f"simulated-{place}", boot="none"))
            registry.lease("dcos", 4, agent_ip)


def registry_in(lab: Lab) -> str:
    """Start a ZooKeeper in a lab, which ends with it, and fill it; answer the registry's URL."""
    server = ZooKeeper(lab.outside.directory / "zookeeper", lab.outside)
    server.start()
    url = f"zookeeper://{server.address}/known"
    lab.outside.run(sys.executable, "-m", "tests.bench.known", url, str(MANY), timeout=_PATIENCE)
    return url


def wait_until_known(host: Host) -> None:
    """Wait until a host has heard of them all; raise LabError where it does not."""
    ends = time.monotonic() + _PATIENCE
    while _agents(host) <= MANY:
        if time.monotonic() > ends:
            raise LabError(f"{host.name} does not hear of {MANY} agents")
        time.sleep(1)


def _agents(host: Host) -> int:
    """Count the agents a host has heard of; none while its own has not begun to answer."""
    answer = host.try_dni("status", "--json")
    return len(json.loads(answer.stdout)["cluster"]["agents"]) if answer.returncode == 0 else 0


def main(words: Sequence[str]) -> None:
    """Fill the registry that is named."""
    fill(words[0], int(words[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
