# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: Hypothesis sets no time limits, says how to repeat a failure; long files begin first."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dni", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dni")

LONGEST = (
    "e2e/test_cluster_survival.py",
    "e2e/test_survival.py",
    "e2e/test_dcos.py",
    "e2e/test_restarts.py",
    "e2e/test_install.py",
    "e2e/test_managed_plugin.py",
    "e2e/test_cni.py",
    "e2e/test_cni_cluster.py",
    "e2e/test_cluster.py",
    "e2e/test_collector.py",
    "e2e/test_disks.py",
    "simulation/test_simulation.py",
    "e2e/test_podman.py",
    "lab/test_lab.py",
    "e2e/test_networks.py",
    "e2e/test_ports.py",
    "contract/test_crashes.py",
    "unit/test_agent_cluster.py",
    "e2e/test_room.py",
    "e2e/test_ipv6.py",
)
"""Files that take a minute or more, the longest first: begun last, they would be waited for when all else is done."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the longest files begin first; within them and among the rest the order stays what it was."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    file = f"{item.path.parent.name}/{item.path.name}"
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)
