# SPDX-License-Identifier: Apache-2.0
"""Hosts with real Docker Engines on one machine, for tests, the demo and the benchmarks."""

from __future__ import annotations

from tests.lab.errors import CommandError, LabError
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.outside import Outside

__all__ = ["CommandError", "Host", "Lab", "LabError", "Node", "Outside"]
