# SPDX-License-Identifier: Apache-2.0
"""The plugin's processes under fire: a small app behind the real server and the real supervisor.

Run as a program (`python -m tests.contract.test_serving up DIRECTORY`) this file is what its tests start.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dni_driver.cli import lifeline, listening, locks
from dni_driver.cli.lines import Lines
from dni_driver.cli.settings import Settings
from dni_driver.cli.supervisor import Program, Supervisor
from dni_driver.core.errors import StoreError, Unavailable
from dni_driver.plugin import serving
from dni_driver.plugin.serving import serve
from tests.lab import procfs

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PATIENCE = 60.0
"""Seconds until a test gives up; what it waits for takes a fraction of one."""


# -- the program -------------------------------------------------------------------------------------------------


def answer(directory: Path, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer the pid of the worker and the body it got; `/slow` takes until a test says `go`."""
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/slow":
        (directory / "slow").touch()
        await_true((directory / "go").exists)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "body": body.decode()}).encode()]


@contextmanager
def opened(directory: Path) -> Iterator[WSGIApplication]:
    """Open nothing; fail as long as a file says so, and note the end."""
    if (directory / "broken").exists():
        raise StoreError((directory / "broken").read_text())
    if (directory / "faulty").exists():
        raise ZeroDivisionError
    try:
        yield partial(answer, directory)
    finally:
        (directory / "closed").touch()


def run_plugin(directory: Path) -> None:
    locks.take(directory / "plugin.lock", "the plugin", PATIENCE)
    serve(
        lambda: opened(directory),
        None if listening.handed_over() else listening.listen(directory / "dni.sock"),
        threads=8,
        scratch=directory,
        after_fork=partial(begin, directory),
    )


def begin(directory: Path, parent: int) -> None:
    """Begin as a worker does; where a test has said `dawdle`, it is no further than that when its parent ends."""
    lifeline.end_with(parent)
    if (directory / "dawdle").exists():
        (directory / "born").write_text(str(os.getpid()))
        await_true(lambda: os.getppid() != parent)


def run_up(directory: Path) -> None:
    listener = listening.listen(directory / "dni.sock")
    plugin = Program(name="plugin", argv=command("plugin", directory), grace=PATIENCE, listener=listener)
    sleeper = Program(name="sleeper", argv=(sys.executable, "-c", "import time; time.sleep(600)"), grace=PATIENCE)
    Supervisor([plugin, sleeper], Settings, Lines("up")).run(before_end=lambda: None)


def command(program: str, directory: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.contract.test_serving", program, str(directory))


# -- how the tests see it ----------------------------------------------------------------------------------------


class _Client(http.client.HTTPConnection):
    """One call, as dockerd makes it: a connection of its own over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def call(directory: Path, target: str = "/quick", body: str = "x") -> dict[str, object]:
    """Make one call and answer what came back; OSError or HTTPException where it was lost."""
    client = _Client(directory / "dni.sock")
    try:
        client.request("POST", target, body, {"Host": "", "Accept-Encoding": "gzip"})
        response = client.getresponse()
        return {"status": response.status, **json.loads(response.read())}
    finally:
        client.close()


def call_like_dockerd(directory: Path) -> dict[str, object]:
    """Make one call, and make it again after 1, 2, 4 and 8 s while nobody listens."""
    for pause in (1, 2, 4, 8):
        try:
            return call(directory)
        except (ConnectionRefusedError, FileNotFoundError):
            time.sleep(pause)
    return call(directory)


def await_true(condition: Callable[[], object]) -> None:
    gives_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < gives_up, "it never came true"
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    return procfs.start_time(pid) is None


def has_grown(pids: set[object], count: int) -> bool:
    return len(pids) > count


class _Running:
    """A started program, and the processes below it."""

    def __init__(self, program: str, directory: Path) -> None:
        self.directory = directory
        with (directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command(program, directory), stdout=log, stderr=log)
        try:
            await_true(self.answers)
        except BaseException:
            self.kill()
            raise

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.directory / "log").read_text()
        try:
            return bool(call(self.directory))
        except (ConnectionRefusedError, FileNotFoundError):
            return False

    def worker(self) -> int:
        return int(str(call(self.directory)["pid"]))

    def kill(self) -> None:
        """End it the hard way; what it started ends by itself."""
        below = self.below()
        self.process.kill()
        self.process.wait()
        for pid in below:
            await_true(partial(has_ended, pid))

    def below(self) -> list[int]:
        found = procfs.children(self.process.pid)
        return found + [grandchild for child in found for grandchild in procfs.children(child)]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], _Running]]:
    started: list[_Running] = []

    def start(program: str) -> _Running:
        started.append(_Running(program, tmp_path))
        return started[-1]

    yield start
    for running in started:
        running.kill()


Start = Callable[[str], _Running]


# -- the tests ---------------------------------------------------------------------------------------------------


def test_calls_made_after_the_worker_was_killed_wait_and_are_answered(start: Start, tmp_path: Path) -> None:
    up = start("up")
    worker = up.worker()
    os.kill(worker, signal.SIGKILL)
    with ThreadPoolExecutor(20) as callers:
        answers = list(callers.map(lambda number: call(tmp_path, body=str(number)), range(20)))
    assert [answer["body"] for answer in answers] == [str(number) for number in range(20)]
    assert worker not in {answer["pid"] for answer in answers}


def test_calls_made_after_the_master_was_killed_wait_and_are_answered(start: Start, tmp_path: Path) -> None:
    up = start("up")
    worker = up.worker()
    master = int(Path(f"/proc/{worker}/stat").read_text().split()[3])
    os.kill(master, signal.SIGKILL)
    await_true(lambda: has_ended(master))
    await_true(lambda: has_ended(worker))
    with ThreadPoolExecutor(20) as callers:
        answers = list(callers.map(lambda _: call(tmp_path), range(20)))
    assert {answer["status"] for answer in answers} == {200}


def test_an_orphaned_worker_answers_the_call_it_has_and_the_next_waits_for_its_end(
    start: Start, tmp_path: Path
) -> None:
    up = start("up")
    worker = up.worker()
    master = int(Path(f"/proc/{worker}/stat").read_text().split()[3])
    with ThreadPoolExecutor(2) as callers:
        slow = callers.submit(call, tmp_path, "/slow")
        await_true((tmp_path / "slow").exists)
        os.kill(master, signal.SIGKILL)
        await_true(lambda: has_ended(master))
        after = callers.submit(call, tmp_path)
        time.sleep(0.1)
        assert not after.done()
        (tmp_path / "go").touch()
    assert slow.result()["pid"] == worker
    assert after.result()["pid"] != worker
    assert has_ended(worker)


def test_a_worker_that_has_only_begun_when_its_master_dies_is_nobodys_orphan(start: Start, tmp_path: Path) -> None:
    up = start("up")
    worker = up.worker()
    master = int(Path(f"/proc/{worker}/stat").read_text().split()[3])
    (tmp_path / "dawdle").touch()
    os.kill(worker, signal.SIGKILL)
    await_true(lambda: (tmp_path / "born").exists() and (tmp_path / "born").read_text())
    born = int((tmp_path / "born").read_text())
    (tmp_path / "dawdle").unlink()
    os.kill(master, signal.SIGKILL)
    await_true(lambda: has_ended(born))
    assert call_like_dockerd(tmp_path)["status"] == 200


def test_a_restart_of_the_plugin_loses_no_call_under_load(start: Start, tmp_path: Path) -> None:
    up = start("up")
    done = threading.Event()
    lost: list[Exception] = []
    pids: set[object] = set()

    def keep_calling() -> None:
        while not done.is_set():
            try:
                pids.add(call(tmp_path)["pid"])
            except (OSError, http.client.HTTPException) as error:
                lost.append(error)

    callers = [threading.Thread(target=keep_calling) for _ in range(4)]
    for caller in callers:
        caller.start()
    for _ in range(3):
        count = len(pids)
        up.process.send_signal(signal.SIGHUP)
        await_true(partial(has_grown, pids, count))
    done.set()
    for caller in callers:
        caller.join()
    assert lost == []


def test_a_killed_supervisor_leaves_nobody_behind_and_a_new_one_serves(start: Start, tmp_path: Path) -> None:
    up = start("up")
    below = up.below()
    assert len(below) == 3
    up.process.kill()
    for pid in below:
        await_true(partial(has_ended, pid))
    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(call_like_dockerd, tmp_path)
        start("up")
    assert waiting.result()["status"] == 200


def test_the_call_in_hand_is_answered_before_the_plugin_ends(start: Start, tmp_path: Path) -> None:
    up = start("up")
    with ThreadPoolExecutor(1) as callers:
        slow = callers.submit(call, tmp_path, "/slow")
        await_true((tmp_path / "slow").exists)
        up.process.terminate()
        time.sleep(0.1)
        (tmp_path / "go").touch()
    assert slow.result()["status"] == 200
    assert up.process.wait(PATIENCE) == 0
    assert (tmp_path / "closed").exists()


def test_a_program_that_dies_is_started_again(start: Start) -> None:
    up = start("up")
    sleeper = next(pid for pid in procfs.children(up.process.pid) if "-c" in procfs.command_line(pid))
    os.kill(sleeper, signal.SIGKILL)
    await_true(lambda: has_ended(sleeper))
    await_true(lambda: len(procfs.children(up.process.pid)) == 2)


def test_the_plugin_alone_makes_its_socket_and_takes_it_away(start: Start, tmp_path: Path) -> None:
    plugin = start("plugin")
    assert (tmp_path / "dni.sock").stat().st_mode & 0o777 == 0o660
    plugin.process.terminate()
    assert plugin.process.wait(PATIENCE) == 0
    assert not (tmp_path / "dni.sock").exists()


def test_a_plugin_that_cannot_open_says_why_and_serves_once_it_can(start: Start, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("the store is damaged")
    plugin = start("plugin")
    assert call(tmp_path) == {"status": 500, "Err": "the store is damaged", "Error": "the store is damaged"}
    (tmp_path / "broken").unlink()
    assert call(tmp_path)["status"] == 200
    assert plugin.process.poll() is None


def test_what_nobody_foresaw_while_opening_is_answered_too(start: Start, tmp_path: Path) -> None:
    (tmp_path / "faulty").touch()
    start("plugin")
    text = "dni cannot start (ZeroDivisionError): its log says more"
    assert call(tmp_path) == {"status": 500, "Err": text, "Error": text}
    (tmp_path / "faulty").unlink()
    assert call(tmp_path)["status"] == 200


def test_a_call_waits_for_the_opening_no_longer_than_a_handler_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "OPENING_SECONDS", 0.01)
    app = serving._Deferred(lambda: pytest.fail("it is being opened already"))  # noqa: SLF001
    with app._opening, pytest.raises(Unavailable, match="dni is still starting"):  # noqa: SLF001
        app.open()


def test_calls_that_come_while_the_app_is_opened_find_it_open() -> None:
    opened: list[str] = []

    @contextmanager
    def opening() -> Iterator[WSGIApplication]:
        opened.append("once")
        time.sleep(0.05)
        yield lambda _environ, _start: [b""]

    app = serving._Deferred(opening)  # noqa: SLF001
    calls = [threading.Thread(target=app.open) for _ in range(4)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    app.close()
    assert opened == ["once"]


def test_no_connection_is_kept_for_a_second_call(start: Start, tmp_path: Path) -> None:
    start("plugin")
    client = _Client(tmp_path / "dni.sock")
    client.request("POST", "/quick", "x")
    response = client.getresponse()
    response.read()
    assert response.headers["Connection"] == "close"
    client.close()


def test_the_server_leaves_no_file_of_its_own(start: Start, tmp_path: Path) -> None:
    start("up")
    assert {file.name for file in tmp_path.iterdir()} == {"dni.sock", "log", "plugin.lock"}


if __name__ == "__main__":
    {"up": run_up, "plugin": run_plugin}[sys.argv[1]](Path(sys.argv[2]))
