# SPDX-License-Identifier: Apache-2.0
"""What is logged without a library looks as what is logged with one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import structlog
from dni_driver.cli import logs
from dni_driver.cli.lines import Lines
from dni_driver.cli.settings import LogSettings

settings = LogSettings(level=sys.argv[1], format=sys.argv[2])
logs.configure(settings, "up")
for log in (structlog.get_logger(), Lines("up", settings.level, settings.format)):
    for tell in (log.info, log.warning, log.error):
        tell("ended", program="agent", pid=7, status="exit 0", nothing="", quoted='a "b"', same="a=b")
"""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def by_both(level: str, form: str) -> tuple[list[str], list[str]]:
    """Answer the lines a library writes, and those that are written without, but for the time."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, level, form], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert all(len(_TIME.findall(line)) == 1 for line in lines)
    written = [_TIME.sub("now", line) for line in lines]
    return written[: len(written) // 2], written[len(written) // 2 :]


@pytest.mark.parametrize(("level", "number"), [("info", 3), ("error", 1)])
def test_people_read_the_same(level: str, number: int) -> None:
    library, own = by_both(level, "console")
    assert own == library
    assert len(own) == number


def test_machines_read_the_same() -> None:
    library, own = by_both("warning", "json")
    assert [json.loads(line) for line in own] == [json.loads(line) for line in library]
    assert len(own) == 2


def test_a_line_that_cannot_be_written_ends_nothing() -> None:
    """As on a full disk, or where the reader of a pipe has gone."""
    script = """
from dni_driver.cli.lines import Lines
for _ in range(1000):
    Lines("up").error("ended", program="agent")
print("goes on")
"""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=full, text=True, check=False
        )
    assert done.stdout == "goes on\n"
