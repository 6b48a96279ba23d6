# SPDX-License-Identifier: Apache-2.0
"""Three hosts with an ensemble of ZooKeeper, and traffic between their containers that goes on through everything."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e import host_state
from tests.e2e.containers import address, start
from tests.e2e.host_state import eventually
from tests.e2e.test_cluster import networks
from tests.lab import Host, Lab
from tests.lab.traffic import Packet, Traffic, in_words, lost
from tests.lab.zookeeper import ZooKeeper, start_again, start_together, url_of

log = logging.getLogger(__name__)

CALM_SECONDS = 60
"""How long anything may take until all is as it was."""


class Survivors:
    """A cluster that is to survive something, and what there is to see of it."""

    def __init__(self, lab: Lab) -> None:
        """Bring everything up: ensemble, dni, a container `web` on each host, traffic between all of them."""
        self.lab = lab
        self.hosts = lab.hosts
        self.servers = [ZooKeeper(node.directory / "zookeeper", node) for node in lab.servers]
        start_together(self.servers)
        self.url = url_of(self.servers)
        self.traffic = Traffic(lab.switch.directory / "traffic")
        self.addresses: dict[str, str] = {}
        for host in self.hosts:
            self.start_dni(host)
        for host in self.hosts:
            self.settle_in(host)
        self.wait_until_calm()

    def start_dni(self, host: Host, **settings: object) -> None:
        """Have a host take part."""
        host.start_dni(**{"registry_url": self.url, **host_state.SETTINGS, **settings})

    def settle_in(self, host: Host) -> None:
        """Start a host's container, as soon as there is a network for it, and have it take part in the traffic."""
        eventually(lambda: "dcos" in networks(host) or None, 60, f"{host.name} has no Docker network")
        self.addresses[host.name] = start(host, "web")
        self.traffic.join(host, "web", self.addresses[host.name])

    def vacate(self, host: Host) -> None:
        """Take a host's container away."""
        self.traffic.leave(self.addresses.pop(host.name))
        host.docker("rm", "-f", "web")

    def define(self, host: Host, overlay: str = "dev", subnet: str = "10.64.0.0/16") -> None:
        """Define an overlay on a host."""
        done = lambda: host.try_dni("overlay", "create", overlay, "--subnet", subnet).returncode == 0 or None  # noqa: E731
        eventually(done, 40, "no overlay can be defined")

    def undefine(self, host: Host, overlay: str = "dev") -> None:
        """Remove an overlay, once no host says that it uses it."""
        done = lambda: host.try_dni("overlay", "rm", overlay).returncode == 0 or None  # noqa: E731
        eventually(done, 40, "the overlay stays")

    def leader(self) -> ZooKeeper:
        """Answer the server that leads."""
        return next(server for server in self.servers if server.mode() == "leader")

    def revive(self) -> None:
        """Start every server that does not run."""
        start_again([server for server in self.servers if server.mode() is None])

    def wait_until_calm(self) -> None:
        """Wait until every host lives and knows all others, nothing is wrong, no address is twice, all flows."""
        ends = time.monotonic() + CALM_SECONDS
        while unrest := self._unrest():
            log.info("not calm: %s", unrest)
            assert time.monotonic() < ends, f"{unrest}; {self._all_there_is()}"
        self.check_addresses()

    def _unrest(self) -> str | None:
        """Answer what is not as it should be, if anything."""
        if not self.traffic.flows():
            return "not all packets arrive"
        everybody = {host.address: True for host in self.hosts}
        for host in self.hosts:
            done = host.try_dni("status", "--json")
            if not done.stdout:
                return f"{host.name}: {done.stderr}"
            status = json.loads(done.stdout)
            lives = {agent["agent"]: agent["alive"] for agent in status["cluster"]["agents"]}
            findings = host_state.findings(host)
            if status["problems"] or findings or lives != everybody:
                return f"{host.name}: {status['problems']}, {findings}, alive {lives}"
        return None

    def _all_there_is(self) -> str:
        """Answer what arrives and what each host says, for whoever has to find out why it is not calm."""
        now = time.monotonic()
        said = [f"{host.name}: {host.try_dni('status').stdout}" for host in self.hosts]
        return "\n".join([in_words(self.traffic.packets(now - 1, now), now), *said])

    def check_addresses(self) -> None:
        """Find no address twice, nor an agent subnet that two agents hold."""
        held = [row["address"] for host in self.hosts for row in host_state.held(host)]
        running = [address(host, name) for host in self.hosts for name in host.docker("ps", "-q").split()]
        overlays = [one for host in self.hosts for one in host_state.overlays(host)]
        subnets = [subnet for overlay in overlays for subnet in overlay["agent_subnets"]]
        for some in (held, running, subnets):
            assert len(set(some)) == len(some), some
        assert set(running) <= set(held)

    @contextmanager
    def watched(self, title: str) -> Iterator[Watch]:
        """Give what tells, after something was done in here, what was lost meanwhile."""
        watch = Watch(self.traffic, title)
        yield watch
        watch.end()


class Watch:
    """What became of the packets from a moment on, to another or to now."""

    def __init__(self, traffic: Traffic, title: str) -> None:
        """Begin now."""
        self._traffic = traffic
        self._title = title
        self.began = time.monotonic()
        self.packets: list[Packet] = []

    def end(self) -> None:
        """Collect what was sent until now, and log what became of it."""
        self.packets = self._traffic.packets(self.began)
        log.info("%s: %s", self._title, in_words(self.packets, self.began))

    def lost(self, since: float = 0.0) -> list[Packet]:
        """Answer what was lost of what was sent so many seconds after the beginning."""
        return [packet for packet in lost(self.packets) if packet.sent >= self.began + since]

    def note(self, what: str) -> float:
        """Log when something came to be, and answer that: in seconds since this began."""
        elapsed = self.elapsed()
        log.info("%s: %s after %.1f s", self._title, what, elapsed)
        return elapsed

    def elapsed(self) -> float:
        """Answer how long it is that it began."""
        return time.monotonic() - self.began


def says(host: Host, problem: str) -> None:
    """Wait until `dni status` of a host tells of a problem."""
    eventually(lambda: problem in " ".join(host_state.problems(host)) or None, 40, f"nobody says: {problem}")
