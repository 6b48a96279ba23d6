# SPDX-License-Identifier: Apache-2.0
"""Words that can be typed and mean nothing, and characters that a terminal does not know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dni_driver.cli import main

_NO_UTF8 = os.fsdecode(b"a\xff")


@pytest.fixture(autouse=True)
def _nobody_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNI_API_SOCKET", str(tmp_path / "absent.sock"))


def _ended(words: list[str]) -> object:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


@pytest.mark.parametrize("name", ["", "a/b", "../dcos"])
@pytest.mark.parametrize(
    "words",
    [
        ["overlay", "usage"],
        ["overlay", "rm"],
        ["overlay", "keep"],
        ["overlay", "set", "--backend", "auto"],
        ["cni", "show"],
    ],
)
def test_a_name_that_no_overlay_can_have_is_unknown(
    capsys: pytest.CaptureFixture[str], words: list[str], name: str
) -> None:
    assert _ended([*words, name]) == 1
    assert capsys.readouterr().err == f"dni: there is no overlay {name!r}: `dni overlay ls` lists them\n"


@pytest.mark.parametrize("ip", ["", "10.0.0.1/24"])
def test_an_agent_that_cannot_be_is_unknown(capsys: pytest.CaptureFixture[str], ip: str) -> None:
    assert _ended(["agent", "forget", ip]) == 1
    assert capsys.readouterr().err == f"dni: {ip!r} is no agent IP: `dni agent ls` lists them\n"


@pytest.mark.parametrize(
    "words",
    [
        ["overlay", "usage", _NO_UTF8],
        ["overlay", "create", _NO_UTF8, "--subnet", "10.64.0.0/16"],
        ["agent", "forget", _NO_UTF8],
        ["address", "ls", "--overlay", _NO_UTF8],
        ["address", "reserve", "dcos", "--for", _NO_UTF8],
        ["address", "release", _NO_UTF8, "9.0.0.130"],
        ["address", "limit", _NO_UTF8, "--egress", "1mbit"],
    ],
)
def test_a_word_that_is_no_utf_8_is_said_to_be_that(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert _ended(words) == 2
    assert capsys.readouterr().err == "dni: the command line has a word in it that is not UTF-8\n"


def test_a_character_that_the_terminal_does_not_know_fails_no_command(tmp_path: Path) -> None:
    (tmp_path / "…").mkdir()
    program = "import sys; from dni_driver.cli import main; main(sys.argv[1:])"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    ran = subprocess.run(
        [sys.executable, "-c", program, "doctor"],
        env={**environment, "DNI_DOCKER_SOCKET": str(tmp_path / "…" / "docker.sock")},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "unexpected" not in ran.stderr
    assert "?/docker.sock" in ran.stdout
