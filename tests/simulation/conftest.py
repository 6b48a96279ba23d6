# SPDX-License-Identifier: Apache-2.0
"""Says at the end how many steps the simulation took, and with which seed."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import pytest
import structlog

from dni_driver.core import local_subnets
from tests.simulation.plans import LOCAL

REPORT = "simulation"
"""The property of a test that is printed at the end."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep tens of thousands of log lines out of a failure's report."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the report, whichever process the test ran in."""
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        for name, text in getattr(report, "user_properties", ()):
            if name == REPORT and report.when == "call":
                terminalreporter.write_line(text)


@pytest.fixture(autouse=True)
def _small_local_subnets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have them so small that they can be filled."""
    monkeypatch.setattr(local_subnets, "SPACE", LOCAL)
    monkeypatch.setattr(local_subnets, "PREFIX", 29)
