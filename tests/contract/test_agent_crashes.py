# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the agent between any two of its writes: the next one puts right what was left half done.

What it writes for containers of CNI is in test_cni_crashes.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface, ip_address, ip_network

import pytest

from dni_driver.core.overlays import AgentSubnet
from dni_driver.core.peers import Peer, Vtep
from dni_driver.kernel import neighbours
from dni_driver.store import peers
from tests.contract.mortal import Host
from tests.contract.plugin import Plugin
from tests.lab.node import REPOSITORY

pytestmark = pytest.mark.root

MOST_WRITES = 80

OWN = Vtep(IPv4Interface("44.128.0.1/20"))
PEERS = [
    Peer(
        agent_ip=ip_address(f"198.51.100.{number}"),
        vtep=Vtep(IPv4Interface(f"44.128.0.{number}/20")),
        subnets=(AgentSubnet(overlay="dcos", subnet=ip_network(f"9.0.{number}.0/24")),),
    )
    for number in (7, 8)
]


class Agent:
    """The agent of a host, act by act."""

    def __init__(self, host: Host, process: subprocess.Popen[str]) -> None:
        """Take the process that does them."""
        self.host, self._process = host, process

    def does(self, act: str, *words: str) -> None:
        """Do something to its end."""
        assert self._ended(act, *words) == 0, (self.host.plugin.folder / "agent.log").read_text()[-2000:]

    def dies_within(self, writes: int, act: str, *words: str) -> bool:
        """Do something, dying right after so many writes; tell whether it made as many."""
        self.host.plugin.tell("fuse", str(writes))
        ended = self._ended(act, *words)
        self.host.fuse.unlink(missing_ok=True)
        assert ended in (0, -9), (self.host.plugin.folder / "agent.log").read_text()[-2000:]
        return ended == -9

    def _ended(self, *words: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{' '.join(words)}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def _running(host: Host) -> Iterator[Agent]:
    argv = [sys.executable, "-m", "tests.contract.agent_process", str(host.plugin.folder)]

    def start() -> subprocess.Popen[str]:
        with (host.plugin.folder / "agent.log").open("a") as log:
            return subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=REPOSITORY
            )

    process = host.namespace.run(start)
    with process:
        yield Agent(host, process)


@pytest.fixture
def agent(real: Plugin, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """An agent on a host with one container on one network."""
    monkeypatch.setattr(neighbours, "_PATIENCE", 0.05)  # nobody is there who could answer
    host = Host(real, real.engine())
    try:
        with _running(host) as agent:
            host.engine.create("dcos")
            host.plug("a", "dcos", egress="10mbit", ingress="20mbit")
            host.is_whole()
            yield agent
            host.clear()
    finally:
        host.close()


def _each_write(agent: Agent, prepare: Callable[[], object], act: str, *words: str) -> Iterator[bool]:
    """Have the agent die after its first write, then after its second, and so on; give way after each."""
    for writes in range(1, MOST_WRITES):
        prepare()
        died = agent.dies_within(writes, act, *words)
        yield died
        if not died:
            assert writes > 2
            return
    pytest.fail(f"{act} makes more than {MOST_WRITES} writes")


def _meet(host: Host) -> None:
    with host.plugin.store.write() as tx:
        peers.set_vtep(tx, OWN)
        peers.put(tx, PEERS)


def _part(host: Host) -> None:
    with host.plugin.store.write() as tx:
        peers.keep_only(tx, [])


def test_an_agent_killed_while_it_mends_leaves_nothing_that_the_next_does_not(agent: Agent) -> None:
    """Of what the plugin leaves to it: links in running containers, with their limits; VTEP, and ways to peers."""
    _meet(agent.host)
    for _ in _each_write(agent, lambda: agent.host.lose_links("dni", "dne", "vtep"), "mend"):
        agent.host.is_whole()
    _part(agent.host)
    agent.host.is_whole()


def test_an_agent_killed_while_it_takes_peers_away_leaves_none(agent: Agent) -> None:
    def lose_sight() -> None:
        _meet(agent.host)
        agent.host.is_whole()
        assert "vtep1024" in agent.host.namespace.sh("ip -o link show")
        _part(agent.host)

    for _ in _each_write(agent, lose_sight, "mend"):
        agent.host.is_whole()
        assert "vtep1024" not in agent.host.namespace.sh("ip -o link show")


def test_an_agent_killed_while_it_changes_limits_leaves_those_that_are_recorded(agent: Agent) -> None:
    address = agent.host.engine.ip("a")
    for _ in _each_write(agent, lambda: agent.does("limit", address, "10000000"), "limit", address, "5000000"):
        agent.host.is_whole()


def test_an_agent_killed_while_it_collects_leaves_nothing_held(agent: Agent) -> None:
    """Where dockerd has lost all it knew: nothing is held for it, and nothing is left."""
    host = agent.host

    def lose_docker() -> None:
        host.engine.create("dcos")
        host.engine.run("a", "dcos", ports=[8080], driver_opts={"egress": "10mbit"})
        host.engine.networks.clear()
        host.engine.containers.clear()

    host.clear()
    for _ in _each_write(agent, lose_docker, "collect"):
        host.is_whole()
        assert host.plugin.links() == host.plugin.bridges() == []
