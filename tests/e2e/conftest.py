# SPDX-License-Identifier: Apache-2.0
"""One lab for the whole run; each test finds a clean host with dni on it and must leave one.

`LAB_ENGINE` chooses the engine (20.10 unless it says otherwise).
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Literal

import pytest

from tests.e2e import host_state
from tests.lab import Host, Lab, Machine

ENGINE = os.environ.get("LAB_ENGINE", "20.10")

_LISTED = re.compile(r"^  [a-z_]+: |loading plugin")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as needing the lab."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One host with a real dockerd, and the outside."""
    with Lab(hosts=1, engine=ENGINE) as made:
        yield made


@pytest.fixture
def host(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host with dni running and nothing on it; after the test, `dni check` must be clean."""
    host = lab.hosts[0]
    host_state.make_ready(host)
    yield host
    failed = getattr(request.node, "failed", False)
    host_state.leave_clean(host, say_why=not failed)


@pytest.fixture
def fresh_host(host: Host) -> Host:
    """A host that has never given an address: the next one is the lowest."""
    host_state.reset(host)
    return host


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a test's failure for its fixtures, and show the logs of the host beside it."""
    report = yield
    if report.when == "call" and report.failed:
        item.failed = True  # type: ignore[attr-defined]
        made = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Lab | Machine)]
        report.sections += [section for one in made for section in _last_words(one)]
    return report


def _last_words(made: Lab | Machine) -> list[tuple[str, str]]:
    if isinstance(made, Machine):
        return [("journal", made.run("journalctl", "--no-pager", "--output", "short-precise", "--lines", "100"))]
    programs: tuple[Literal["dni", "dockerd"], ...] = ("dni", "dockerd")
    return [
        (f"{program} log", "\n".join(_told(host.logs(program).splitlines())[-120:]))
        for host in made.hosts[:1]
        for program in programs
    ]


def _told(lines: list[str]) -> list[str]:
    """Leave out gunicorn's settings at each start, and what dockerd loads: together they are most of a log."""
    return [line for line in lines if not _LISTED.search(line)]
