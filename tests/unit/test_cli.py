# SPDX-License-Identifier: Apache-2.0
"""How `dni` is called: help, mistakes, an agent that refuses or is not there, JSON, and what is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dni_driver.cli import asking
from dni_driver.cli.tables import table
from tests.unit.canned_agent import ADDRESS, KEPT, NEW, OVERLAY, PORT, STATUS, USAGE, Dni, _CannedAgent, agent, dni

__all__ = ["agent", "dni"]


def test_help_says_what_dni_is_and_how_to_begin(dni: Dni) -> None:
    for words in ((), ("--help",)):
        ran = dni(*words)
        assert ran.status == 0
        assert "network driver" in ran.out
        assert "sudo dni up" in ran.out
        assert "docker network create -d dni --ipam-driver dni dcos" in ran.out
        assert "docker run" in ran.out
        assert max(map(len, ran.out.splitlines())) <= 100


@pytest.mark.parametrize("group", ["overlay", "agent", "address", "cni", "serve"])
def test_a_group_without_a_command_shows_its_commands_each_with_a_whole_sentence(dni: Dni, group: str) -> None:
    for words in ((), (group,)):
        ran = dni(*words)
        assert ran.status == 0
        listed = ran.out.partition("Commands:\n")[2]
        assert listed.endswith(".\n")
        assert "..." not in listed


def test_where_a_backend_can_be_chosen_help_leads_to_what_each_is(dni: Dni) -> None:
    assert "dni overlay set --help" in " ".join(dni("overlay", "create", "--help").out.split())
    told = dni("overlay", "set", "--help").out.partition("Options:")[0]
    assert all(backend in told for backend in ("vxlan", "direct", "auto"))


def test_help_says_that_a_repair_frees_without_waiting_and_when_keep_changes_nothing(dni: Dni) -> None:
    assert "without the wait" in " ".join(dni("repair", "--help").out.split())
    assert "Where no removal is under way this changes nothing" in dni("overlay", "keep", "--help").out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nonsense"], "dni: No such command 'nonsense'. (`dni --help` says more)"),
        (["overlay", "create"], "dni: Missing argument 'NAME'. (`dni overlay create --help` says more)"),
        (["status", "--x"], "dni: No such option '--x'. (`dni status --help` says more)"),
        (["--json", "status"], "dni: --json comes after the command: `dni status --json`"),
        (["overlay", "--json", "ls"], "dni: --json comes after the command: `dni status --json`"),
        (["cni", "show", "dcos", "--json"], "dni: No such option '--json'. (`dni cni show --help` says more)"),
    ],
)
def test_a_mistyped_command_is_one_line_and_status_2(dni: Dni, words: list[str], line: str) -> None:
    ran = dni(*words)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"{line}\n"


def test_a_bad_setting_is_one_line_and_status_2(dni: Dni, tmp_path: Path) -> None:
    file = tmp_path / "dni.toml"
    file.write_text("[plugin]\nthreads = 0\n")
    ran = dni("--config", str(file), "status")
    assert ran.status == 2
    assert ran.err == f"dni: {file}: plugin.threads = 0: must be a whole number from 1 to 512\n"


@pytest.mark.parametrize(
    ("words", "asked", "answer"),
    [
        (["status"], "GET /v1/status", STATUS),
        (["overlay", "ls"], "GET /v1/overlays", [OVERLAY]),
        (["overlay", "create", "dev", "--subnet", "10.64.0.0/16"], "POST /v1/overlays", NEW),
        (["overlay", "usage", "dcos"], "GET /v1/overlays/dcos/usage", USAGE),
        (["address", "ls"], "GET /v1/addresses", [ADDRESS]),
        (["address", "reserve", "dcos", "--for", "web"], "POST /v1/reservations", KEPT),
        (
            ["address", "release", "dcos", "--for", "web"],
            "DELETE /v1/reservations?overlay=dcos&container=web",
            [KEPT],
        ),
        (["address", "limit", "9.0.0.130", "--egress", "10mbit"], "POST /v1/limits", ADDRESS),
        (["ports"], "GET /v1/ports", [PORT]),
        (["check"], "POST /v1/check", {"findings": []}),
        (["repair"], "POST /v1/repair", {"changed": [], "freed": [], "findings": []}),
    ],
)
def test_json_is_what_the_agent_answered(
    dni: Dni, agent: _CannedAgent, words: list[str], asked: str, answer: Any
) -> None:
    agent.answers[asked] = (200, answer)
    ran = dni(*words, "--json")
    assert ran.status == 0
    assert json.loads(ran.out) == answer


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
def test_what_the_agent_refuses_is_one_line_and_status_1(dni: Dni, agent: _CannedAgent, status: int) -> None:
    agent.answers["DELETE /v1/overlays/dev"] = (status, {"error": "overlay 'dev' is in use by network web"})
    ran = dni("overlay", "rm", "dev")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "dni: overlay 'dev' is in use by network web\n"


def test_an_answer_of_another_version_is_said_to_be_that(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["GET /v1/status"] = (200, {**STATUS, "docker": "20.10"})
    ran = dni("status")
    assert (ran.status, ran.out) == (1, "")
    assert "another version" in ran.err


def test_where_no_agent_runs_the_way_to_start_it_is_shown(
    dni: Dni, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNI_API_SOCKET", str(tmp_path / "absent.sock"))
    ran = dni("status")
    assert ran.status == 1
    assert len(ran.err.splitlines()) == 1
    assert "does not answer" in ran.err
    assert "`dni up`" in ran.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without the right to the socket")
def test_who_lacks_the_right_to_the_socket_is_told_so(dni: Dni, agent: _CannedAgent) -> None:
    os.seteuid(65534)
    try:
        ran = dni("status")
    finally:
        os.seteuid(0)
    assert ran.status == 1
    assert len(ran.err.splitlines()) == 1
    assert str(agent.path) in ran.err
    assert "sudo dni" in ran.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can cease to be root")
@pytest.mark.parametrize("words", [["up"], ["serve", "plugin"], ["serve", "agent"]])
def test_a_program_that_needs_root_says_so(dni: Dni, words: list[str]) -> None:
    os.seteuid(65534)
    try:
        ran = dni(*words)
    finally:
        os.seteuid(0)
    assert ran.status == 1
    assert ran.err == "dni: dni changes the network of this host and must run as root: put sudo before it\n"


def test_what_nobody_foresaw_is_one_line_too(dni: Dni, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(asking, "load", fail)
    ran = dni("status")
    assert (ran.status, ran.err) == (1, "dni: unexpected RuntimeError: first second\n")


def test_a_reader_that_goes_away_is_no_error(agent: _CannedAgent) -> None:
    agent.answers["GET /v1/addresses"] = (200, [ADDRESS] * 5000)
    command = [sys.executable, "-m", "dni_driver", "address", "ls"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("dni_driver.cli.entry", ["flask", "gunicorn", "pyroute2", "docker", "structlog", "netaddr", "sqlite3"]),
        ("dni_driver.console.client", ["flask", "gunicorn", "pyroute2", "docker", "structlog", "waitress"]),
        ("dni_driver.cli.holding", ["click", "msgspec", "structlog", "logging", "inspect", "threading"]),
    ],
)
def test_what_must_be_quick_or_small_imports_nothing_heavy(module: str, heavy: list[str]) -> None:
    script = f"import sys, {module}; print(*sorted(set({heavy}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_table_lines_up_and_puts_numbers_to_the_right() -> None:
    assert table(("NAME", "N"), [("a", 5), ("bb", 123)]) == "NAME    N\na       5\nbb    123"


def test_an_absent_cell_is_a_dash() -> None:
    assert table(("NAME", "N"), [(None, 5)]) == "NAME  N\n-     5"
