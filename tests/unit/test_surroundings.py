# SPDX-License-Identifier: Apache-2.0
"""What dockerd meets where it looks for plugins: real sockets, files and locks, in a folder of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from dni_driver.cli import locks, surroundings
from dni_driver.cli.settings import ApiSettings, PluginSettings, RunSettings, Settings
from dni_driver.core.doctor.facts import PluginFacts, PluginSocket, Program, Spec


class Place:
    """A host's folders."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        """Make them."""
        self.plugins, self.specs, self.run = root / "plugins", root / "specs", root / "run"
        for folder in (self.plugins, self.specs, self.run):
            folder.mkdir()
        self._stack = stack
        self.settings = Settings(
            plugin=PluginSettings(socket=self.plugins / "dni.sock"),
            api=ApiSettings(socket=self.run / "api.sock"),
            run=RunSettings(directory=self.run),
        )

    def listen(self, path: Path) -> None:
        """Have this process listen at a path."""
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen()

    def leave_dead(self, path: Path) -> None:
        """Leave a socket at a path that nobody listens on."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))

    def look(self) -> PluginFacts:
        """Look."""
        return surroundings.look(self.settings)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with ExitStack() as stack:
        place = Place(tmp_path, stack)
        monkeypatch.setattr(surroundings, "_SOCKETS", place.plugins)
        monkeypatch.setattr(surroundings, "_SPECS", (place.specs,))
        yield place


def test_a_bare_host_has_nothing(place: Place) -> None:
    seen = place.look()
    assert (seen.sockets, seen.specs, seen.plugin_runs, seen.agent_runs, seen.api_mode) == (
        (),
        (),
        False,
        False,
        None,
    )


def test_a_socket_that_is_served_tells_who_serves_it(place: Place) -> None:
    place.listen(place.plugins / "dni.sock")
    (seen,) = place.look().sockets
    assert (seen.state, seen.listener) == ("answers", os.getpid())
    assert seen.program.split()[0] == Path("/proc/self/cmdline").read_text().split("\0")[0]


def test_dead_sockets_are_found_where_dockerd_finds_them(place: Place) -> None:
    (place.plugins / "weave").mkdir()
    (place.plugins / "0123abcd").mkdir()
    for path in ("old.sock", "weave/weave.sock", "0123abcd/dni.sock"):
        place.leave_dead(place.plugins / path)
    (place.plugins / "note.sock").write_text("no socket")
    assert {(Path(seen.path).name, seen.state) for seen in place.look().sockets} == {
        ("old.sock", "dead"),
        ("weave.sock", "dead"),
    }


def test_something_else_in_the_place_of_the_socket_is_told(place: Place) -> None:
    (place.plugins / "dni.sock").write_text("")
    (place.plugins / "dni.sock").chmod(0o640)
    assert place.look().sockets == (
        PluginSocket(path=str(place.plugins / "dni.sock"), state="no-socket", mode=0o640),
    )


def test_specs_of_both_forms_are_read(place: Place) -> None:
    (place.specs / "dni.spec").write_text("tcp://192.0.2.9:80\n")
    (place.specs / "dni").mkdir()
    (place.specs / "dni" / "dni.json").write_text('{"Name": "dni", "Addr": "https://192.0.2.9"}')
    (place.specs / "dni.json").write_text("{")
    (place.specs / "weave.spec").write_text("unix:///w.sock")
    assert place.look().specs == (
        Spec(str(place.specs / "dni.spec"), "tcp://192.0.2.9:80"),
        Spec(str(place.specs / "dni.json"), "{"),
        Spec(str(place.specs / "dni" / "dni.json"), "https://192.0.2.9"),
    )


def test_a_program_runs_whose_lock_is_held(place: Place) -> None:
    lock = locks.take(place.run / "plugin.lock", "it", 0)
    assert (place.look().plugin_runs, place.look().agent_runs) == (True, False)
    os.close(lock)
    assert place.look().plugin_runs is False


def test_a_look_at_a_lock_leaves_it_free(place: Place) -> None:
    os.close(locks.take(place.run / "agent.lock", "it", 0))
    place.look()
    os.close(locks.take(place.run / "agent.lock", "it", 0))


def test_the_mode_of_the_operators_socket_is_told(place: Place) -> None:
    place.listen(place.run / "api.sock")
    (place.run / "api.sock").chmod(0o666)
    assert place.look().api_mode == 0o666


@pytest.mark.parametrize(
    "words",
    [("-m", "dni_driver", "serve", "plugin"), ("/usr/bin/dni", "--config", "x", "serve", "plugin")],
    ids=["module", "command"],
)
def test_every_plugin_of_this_network_is_found_by_its_command_line(place: Place, words: tuple[str, ...]) -> None:
    """A worker has the command line of its master, and is none by itself."""
    script = "import os, sys, time; fork = os.fork(); print(flush=True); time.sleep(600)"
    running = [sys.executable, "-c", script, *words] if words[0] == "-m" else None
    argv = running or ["bash", "-c", f'exec -a {words[0]} {sys.executable} -c "{script}" "$@"', "-", *words[1:]]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as master:
        try:
            assert master.stdout is not None
            master.stdout.readline()
            found = [program for program in place.look().programs if _is_of(master.pid, program)]
        finally:
            os.killpg(master.pid, 9)
    assert found == [Program(master.pid, ours=False)]


def _is_of(group: int, program: Program) -> bool:
    """Tell a program of this test from those of others that run beside it."""
    with suppress(ProcessLookupError):
        return os.getpgid(program.pid) == group
    return False


def test_a_plugin_of_another_network_namespace_is_another_hosts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that has dni in it."""
    monkeypatch.setattr(surroundings, "_NAMESPACE", Path("/proc/self/ns/mnt"))  # any other namespace will do
    argv = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)", "dni_driver", "serve", "plugin"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as elsewhere:
        assert elsewhere.stdout is not None
        elsewhere.stdout.readline()
        found = place.look().programs
        elsewhere.kill()
    assert elsewhere.pid not in {program.pid for program in found}
