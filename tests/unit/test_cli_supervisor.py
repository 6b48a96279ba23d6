# SPDX-License-Identifier: Apache-2.0
"""The supervisor, with small real programs below it.

Run as a program (`python -m tests.unit.test_cli_supervisor DIRECTORY SCRIPT...`) this file is a supervisor whose
programs are Python scripts, the first with two seconds to end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dni_driver.cli import supervisor
from dni_driver.cli.lines import Lines
from dni_driver.cli.supervisor import Program, Supervisor
from dni_driver.core.errors import SettingsError
from tests.lab import procfs

PATIENCE = 60.0

QUIET = "import time; time.sleep(600)"
DYING = "print(1, flush=True)"
NOTING_THE_END = """
import pathlib, signal, sys, time
def end(*_):
    with pathlib.Path("ends").open("a") as ends: ends.write("{name}\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
pathlib.Path("{name}").touch()
time.sleep(600)
"""
STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("stubborn").touch()
time.sleep(600)
"""
SHOWING_ITSELF = """
import json, os, pathlib, signal, time
shown = {
    "session": os.getsid(0) == os.getpid(),
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "LISTEN_PID": os.environ.get("LISTEN_PID") == str(os.getpid()),
    "LISTEN_FDS": os.environ.get("LISTEN_FDS"),
    "NOTIFY_SOCKET": os.environ.get("NOTIFY_SOCKET"),
    "descriptor 3": os.readlink("/proc/self/fd/3").split(":")[0],
}
pathlib.Path("new").write_text(json.dumps(shown))
pathlib.Path("new").rename("shown")
time.sleep(600)
"""


def run(directory: Path, scripts: list[str]) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")
    grace = PATIENCE if (directory / "patient").exists() else 2.0
    programs = [
        Program(name=str(number), argv=(sys.executable, "-c", script), grace=grace, listener=listener)
        for number, script in enumerate(scripts)
    ]

    def check() -> None:
        if (directory / "bad settings").exists():
            raise SettingsError("plugin.threads = 0")

    Supervisor(programs, check, Lines("up")).run(before_end=(directory / "ending").touch)


def await_true(condition: Callable[[], object]) -> None:
    gives_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < gives_up, "it never came true"
        time.sleep(0.01)


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []
    repository = Path(__file__).resolve().parents[2]

    def start(*scripts: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.unit.test_cli_supervisor", str(tmp_path), *scripts]
        environment = {**os.environ, "PYTHONPATH": str(repository), "NOTIFY_SOCKET": str(tmp_path / "notify.sock")}
        with (tmp_path / "log").open("ab") as log:
            started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        below = {pid: procfs.start_time(pid) for pid in procfs.children(process.pid)}
        process.kill()
        process.wait()
        for pid, began in below.items():
            procfs.kill(pid, began or 0)


def children(process: subprocess.Popen[bytes]) -> list[int]:
    return procfs.children(process.pid)


def test_a_program_gets_the_socket_and_a_session_of_its_own(start: Start, tmp_path: Path) -> None:
    start(SHOWING_ITSELF)
    await_true((tmp_path / "shown").exists)
    assert json.loads((tmp_path / "shown").read_text()) == {
        "session": True,
        "blocked": [],
        "LISTEN_PID": True,
        "LISTEN_FDS": "1",
        "NOTIFY_SOCKET": None,
        "descriptor 3": "socket",
    }


def test_programs_end_one_after_the_other_in_their_order(start: Start, tmp_path: Path) -> None:
    process = start(*(NOTING_THE_END.format(name=name) for name in ("plugin", "agent")))
    await_true(lambda: (tmp_path / "plugin").exists() and (tmp_path / "agent").exists())
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    assert (tmp_path / "ends").read_text() == "plugin\nagent\n"
    assert (tmp_path / "ending").exists()


def test_one_that_does_not_end_in_time_is_killed(start: Start, tmp_path: Path) -> None:
    process = start(STUBBORN)
    await_true((tmp_path / "stubborn").exists)
    began = time.monotonic()
    process.terminate()
    assert process.wait(PATIENCE) == 0
    assert time.monotonic() - began >= 2.0


def test_a_second_signal_does_not_wait(start: Start, tmp_path: Path) -> None:
    (tmp_path / "patient").touch()
    process = start(STUBBORN.replace('"stubborn"', '"first"'), STUBBORN)
    await_true(lambda: (tmp_path / "first").exists() and (tmp_path / "stubborn").exists())
    began = time.monotonic()
    process.terminate()
    await_true((tmp_path / "ending").exists)
    process.terminate()
    assert process.wait(PATIENCE) == 0
    assert time.monotonic() - began < PATIENCE


def test_pauses_grow_while_a_program_keeps_dying(start: Start, tmp_path: Path) -> None:
    start(DYING)
    began = time.monotonic()
    await_true(lambda: (tmp_path / "log").read_text().splitlines().count("1") >= 4)
    assert time.monotonic() - began >= 0.1 + 0.2 + 0.4


def test_a_restart_is_asked_for_by_sighup_and_leaves_the_others_alone(start: Start) -> None:
    process = start(QUIET, QUIET)
    await_true(lambda: len(children(process)) == 2)
    before = children(process)
    process.send_signal(signal.SIGHUP)
    await_true(lambda: len(set(children(process)) - set(before)) == 1)
    await_true(lambda: len(children(process)) == 2)
    assert len(set(children(process)) & set(before)) == 1


def test_settings_that_would_not_start_again_are_refused_and_the_program_goes_on(
    start: Start, tmp_path: Path
) -> None:
    process = start(QUIET)
    await_true(lambda: len(children(process)) == 1)
    before = children(process)
    (tmp_path / "bad settings").touch()
    process.send_signal(signal.SIGHUP)
    await_true(lambda: "not restarted" in (tmp_path / "log").read_text())
    assert "plugin.threads = 0" in (tmp_path / "log").read_text()
    assert children(process) == before


def test_systemd_is_told_of_the_beginning_and_the_end(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify.sock"))
        manager.settimeout(PATIENCE)
        process = start(QUIET)
        assert manager.recv(100) == b"READY=1"
        process.terminate()
        assert manager.recv(100) == b"STOPPING=1"
        assert process.wait(PATIENCE) == 0


def test_no_program_outlives_a_killed_supervisor(start: Start) -> None:
    process = start(QUIET, QUIET)
    await_true(lambda: len(children(process)) == 2)
    below = children(process)
    process.kill()
    process.wait()
    await_true(lambda: [procfs.start_time(pid) for pid in below] == [None, None])


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])


def test_one_that_ran_for_long_is_started_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(supervisor, "_spawn", lambda _: 1)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    child = supervisor._Child(Program("a", (), 1.0), Lines("up", "error"))  # noqa: SLF001
    pauses = []
    for ran in (0.0, 0.0, 0.0, supervisor.HEALTHY_SECONDS, 0.0):
        child.start()
        now += ran
        child.ended(0)
        pauses.append(round(child.due - now, 3))
    assert pauses == [0.1, 0.2, 0.4, 0.1, 0.2]


def test_one_whose_parent_has_died_already_ends() -> None:
    script = "import os; from dni_driver.cli import lifeline; lifeline.end_with(os.getppid() + 1); print('goes on')"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")
