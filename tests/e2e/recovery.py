# SPDX-License-Identifier: Apache-2.0
"""What is true of a host again after anything: nothing has leaked, containers start, stop and reach each other."""

from __future__ import annotations

import time

from tests.e2e import host_state
from tests.e2e.containers import address, reaches, start
from tests.lab import Host

GATEWAY = "9.0.0.129"


def settle(host: Host) -> None:
    """Wait until what is held is what runs, and nothing is wrong."""
    running = host.docker("ps", "-q", "--filter", "network=dcos").split()
    host_state.collected(host, lambda: len(host_state.held(host)) == len(running), "something leaked")
    host_state.collected(host, lambda: host_state.findings(host) == [], "dni check finds something")
    assert len({address(host, name) for name in running}) == len(running)


def works(host: Host, name: str) -> None:
    """Have a container reach its gateway; start another, which it reaches, and take that away."""
    host_state.eventually(lambda: reaches(host, name, GATEWAY), 25, f"{name} does not reach its gateway")
    another = f"new{time.monotonic_ns()}"
    assert reaches(host, name, start(host, another))
    host.docker("rm", "-f", another)
    settle(host)


def let_collect(host: Host, grace: str) -> None:
    """Have the collector look, and let so much time pass that it frees at its next look: when a container starts."""
    host_state.stir(host)
    time.sleep(host_state.GRACES[grace])
