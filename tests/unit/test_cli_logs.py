# SPDX-License-Identifier: Apache-2.0
"""Log lines, ours and the libraries', as a process writes them to standard error."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SCRIPT = """
import logging, sys
import structlog
from dni_driver.cli import logs
from dni_driver.cli.settings import LogSettings
log = structlog.get_logger("early")
logs.configure(LogSettings(level={level!r}, format={format!r}), "plugin")
import asyncio, pyroute2
log.debug("a detail")
log.info("an overlay", overlay="dcos", subnet=("9.0.0.0/8",))
logging.getLogger("kazoo.client").warning("lost %s", "it")
logging.getLogger("urllib3").debug("noise")
logging.getLogger("pyroute2.netlink.core").debug("each message")
logging.getLogger("asyncio").debug("each loop")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def written(level: str, form: str) -> list[str]:
    """Answer the lines of a process that logs this and that."""
    command = [sys.executable, "-c", SCRIPT.format(level=level, format=form)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_is_one_object_a_line_whoever_wrote_it() -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in written("info", "json")]
    assert [line["event"] for line in lines] == ["an overlay", "lost it", "failed"]
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert {line["by"] for line in lines} == {"plugin"}
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert lines[0]["overlay"] == "dcos"
    assert "ZeroDivisionError" in lines[2]["exception"]


def test_the_console_form_is_plain_where_nobody_looks() -> None:
    lines = written("info", "console")
    assert "\x1b" not in "".join(lines)
    assert "an overlay" in lines[0]
    assert "overlay=dcos" in lines[0]
    assert "lost it" in lines[1]


def test_the_level_holds_for_ours_and_theirs() -> None:
    assert [json.loads(line)["event"] for line in written("error", "json")] == ["failed"]
    assert json.loads(written("debug", "json")[0])["event"] == "a detail"


def test_libraries_that_tell_everything_are_not_let_also_when_imported_later() -> None:
    told = {json.loads(line)["event"] for line in written("debug", "json")}
    assert "noise" in told
    assert not told & {"each message", "each loop"}
