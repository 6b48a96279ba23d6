# SPDX-License-Identifier: Apache-2.0
"""Every command of README.md and docs/networks.md does what the page says; docs/settings.md has all settings."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import msgspec
import pytest

from dni_driver.agent.networking import PRUNE_SECONDS
from dni_driver.cli.settings import Settings
from tests.lab import Host, Lab
from tests.readme.transcript import Step, steps

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs/networks.md"]
"""In the order in which they are read: README.md takes away what it made before it ends."""
SETTINGS = ROOT / "docs/settings.md"
_PATIENCE = 60.0
_LOG_LINE = re.compile(r'^time=".*\n', re.MULTILINE)
"""What Docker's client logs beside its answer when it gives up waiting for a container that was refused."""


def test_three_dots_stand_for_any_text() -> None:
    step = Step("dni status", "agent  …\nstore  …")

    assert step.is_met_by("agent  192.0.2.11  \nregistry\nstore  /var/lib/dni/dni.db\n")
    assert not step.is_met_by("agent  192.0.2.11\n")


def test_a_block_is_commands_and_their_output() -> None:
    markdown = (
        "Text\n```console\n$ docker run \\\n  busybox\nhello\n$ dni check\nAll is well\n```\n```\n$ not this\n```\n"
    )

    assert [(step.command, step.output) for step in steps(markdown)] == [
        ("docker run   busybox", "hello\n"),
        ("dni check", "All is well\n"),
    ]


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = [line for line in SETTINGS.read_text().splitlines() if line.startswith("| `")]
    defaults = msgspec.to_builtins(Settings(), enc_hook=str)
    missing = [
        f"{section}.{key} = {default}"
        for section, keys in defaults.items()
        for key, default in keys.items()
        if not any(f"`{section}.{key}`" in row and _written(default) in row for row in rows)
    ]

    assert not missing


@pytest.mark.lab
@pytest.mark.timeout(600)
def test_every_command_prints_what_its_page_says() -> None:
    with Lab(hosts=1) as lab:
        host = lab.hosts[0]
        host.start_dni()
        wrong = [
            f"{page.name}: $ {step.command}\n{output}"
            for page in PAGES
            for step in steps(page.read_text())
            if (output := _other(host, step))
        ]

    assert not wrong, "\n".join(wrong)


def _written(default: object) -> str:
    """Write a default as the table does; one that is found out, or follows from others, is said in words there."""
    match default:
        case None:
            return ""
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:g}`"
        case str():
            return f'`"{default}"`'
        case _:
            return f"`{default}`"


def _other(host: Host, step: Step) -> str | None:
    """Run a step; answer its output where it is not the one described.

    What `dni` shows is asked again for a while: it learns names a moment after Docker has answered. A prune is
    kept apart from removals before it, as by hand: they would count as its own.
    """
    program, *words = shlex.split(step.command)
    if words[:2] == ["network", "prune"]:
        time.sleep(PRUNE_SECONDS + 1)
    run = {"docker": host.try_docker, "dni": host.try_dni}[program]
    patience = time.monotonic() + (_PATIENCE if program == "dni" else 0)
    while True:
        done = run(*words)
        output = _LOG_LINE.sub("", done.stdout + done.stderr)
        if step.is_met_by(output):
            return None
        if time.monotonic() > patience:
            return output or "(nothing)"
        time.sleep(0.2)
