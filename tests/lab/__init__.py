# SPDX-License-Identifier: Apache-2.0
"""Hosts with real Docker Engines on one machine, for tests, the demo and the benchmarks.

    with Lab(hosts=2, engine="28.5") as lab:
        host = lab.hosts[0]
        host.start_dni(log_level="debug")  # `dni up` with DNI_LOG_LEVEL=debug
        host.docker("network", "create", "-d", "dni", "--ipam-driver", "dni", "dcos")
        host.docker("run", "--rm", "--net", "dcos", "busybox", "wget", "-qO-", lab.outside.echo_url)

A host is a set of namespaces around the machine's root file system. Where the engine is not the installed one,
dockerd and its client see that engine's root file system instead; all else, dni too, sees the machine's.
"""

from __future__ import annotations

from tests.lab.administered import Administered
from tests.lab.errors import CommandError, LabError
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.machine import Machine
from tests.lab.node import Node
from tests.lab.outside import Outside

__all__ = ["Administered", "CommandError", "Host", "Lab", "LabError", "Machine", "Node", "Outside"]
