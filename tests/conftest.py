# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: Hypothesis sets no time limits, says how to repeat a failure; long files begin first."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("dni", deadline=None, print_blob=True)
settings.load_profile("dni")

LONGEST = (
    "test_cluster_survival.py",
    "test_survival.py",
    "test_simulation.py",
    "test_collector.py",
    "test_install.py",
    "test_managed_plugin.py",
    "test_endurance.py",
)
"""Files that take minutes: begun last, they would be waited for when all else is done."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the longest files begin first; within them and among the rest the order stays what it was."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
