# SPDX-License-Identifier: Apache-2.0
"""The real `dni up`, in a network namespace of its own: what is killed comes back, and calls wait for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dni_driver.cli.loading import variable
from tests.contract.dockerd import Dockerd
from tests.contract.plugin import underlay
from tests.contract.test_serving import PATIENCE, await_true
from tests.lab import procfs
from tests.root.ground import Namespace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

DNI = (sys.executable, "-m", "dni_driver")
PROGRAMS = ("worker", "plugin", "agent")


def requested(host: Host) -> str:
    """Request a plain pool, and answer its id."""
    pool = host.dockerd.call("IpamDriver.RequestPool", {"AddressSpace": "dni-local", "Pool": "10.200.0.0/24"})
    return str(pool["PoolID"])


class Host:
    """A host on which `dni up` runs: a namespace, and a directory for all that dni keeps."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        """Start nothing yet."""
        self._namespace = namespace
        self._directory = directory
        self.options: tuple[str, ...] = ()
        self.socket = directory / "plugins" / "dni.sock"
        self.dockerd = Dockerd(self.socket, second=1.0)
        self.process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """Answer the environment in which all paths are below the directory."""
        return {**os.environ, **self.paths()}

    def paths(self) -> dict[str, str]:
        """Answer the variables that say where everything is."""
        paths = {
            variable("store", "directory"): "store",
            variable("run", "directory"): "run",
            variable("plugin", "socket"): "plugins/dni.sock",
            variable("api", "socket"): "run/dni.sock",
            variable("docker", "socket"): "docker.sock",
        }
        return {name: str(self._directory / path) for name, path in paths.items()}

    def up(self) -> None:
        """Start `dni up` and wait until both programs answer."""
        with (self._directory / "log").open("ab") as log:
            command = (*DNI, *self.options, "up")
            self.process = self._namespace.run(
                subprocess.Popen, command, env=self.environment(), stdout=log, stderr=log
            )
        await_true(self._serves)

    def _serves(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        return self.dni("status").returncode == 0 and bool(self.dockerd.call("Plugin.Activate"))

    def dni(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another `dni` command to its end."""
        return subprocess.run(
            [*DNI, *self.options, *words], env=self.environment(), capture_output=True, text=True, check=False
        )

    def shown(self, *words: str) -> Any:
        """Answer what a command shows."""
        done = self.dni(*words, "--json")
        assert done.returncode == 0, done.stderr + self.log()
        return json.loads(done.stdout)

    def pids(self, program: str) -> list[int]:
        """Answer the pids of `plugin` (the master), `worker` or `agent`: one, or none in between."""
        assert self.process is not None
        if program == "worker":
            return [worker for master in self.pids("plugin") for worker in procfs.children(master)]
        return [pid for pid in procfs.children(self.process.pid) if program in procfs.command_line(pid)]

    def log(self) -> str:
        """Answer what `dni up` wrote."""
        return (self._directory / "log").read_text()

    def kill_all(self) -> None:
        """End everything the hard way."""
        if self.process is not None:
            below = [pid for program in PROGRAMS for pid in self.pids(program)]
            self.process.kill()
            self.process.wait()
            await_true(lambda: all(procfs.start_time(pid) is None for pid in below))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Namespace() as namespace:
        underlay(namespace)
        host = Host(namespace, tmp_path)
        try:
            host.up()
            yield host
        finally:
            host.kill_all()


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_killed_comes_back_and_calls_made_meanwhile_are_answered(host: Host, program: str) -> None:
    pool = requested(host)
    (killed,) = host.pids(program)
    os.kill(killed, signal.SIGKILL)
    await_true(lambda: procfs.start_time(killed) is None)
    with ThreadPoolExecutor(10) as callers:
        asked = [callers.submit(host.dockerd.call, "IpamDriver.RequestAddress", {"PoolID": pool}) for _ in range(20)]
    assert len({call.result()["Address"] for call in asked}) == 20
    await_true(lambda: host.pids(program) not in ([], [killed]))
    await_true(lambda: host.dni("status").returncode == 0)
    assert len(host.shown("address", "ls")) == 20


def test_a_killed_dni_up_takes_all_along_and_the_next_one_goes_on_where_it_was(host: Host) -> None:
    pool = requested(host)
    first = host.dockerd.call("IpamDriver.RequestAddress", {"PoolID": pool})
    host.kill_all()
    with ThreadPoolExecutor(1) as callers:
        refused = callers.submit(host.dockerd.call, "IpamDriver.RequestAddress", {"PoolID": pool})
        host.up()
    assert refused.result()["Address"] != first["Address"]
    assert {record["address"] for record in host.shown("address", "ls")} == {
        answer["Address"].partition("/")[0] for answer in (first, refused.result())
    }


def test_an_upgrade_restarts_the_plugin_alone_and_loses_no_call(host: Host) -> None:
    assert host.process is not None
    (master,), (agent,) = host.pids("plugin"), host.pids("agent")
    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(host.dockerd.call, "IpamDriver.GetCapabilities") for _ in range(200)]
        host.process.send_signal(signal.SIGHUP)
    assert all(call.result() for call in calls)
    await_true(lambda: procfs.start_time(master) is None)
    await_true(lambda: host.pids("plugin") not in ([], [master]))
    assert host.pids("agent") == [agent]


def test_a_clean_stop_takes_the_sockets_away_and_ends_with_0(host: Host) -> None:
    assert host.process is not None
    below = [pid for program in PROGRAMS for pid in host.pids(program)]
    host.process.terminate()
    assert host.process.wait(PATIENCE) == 0
    assert [procfs.start_time(pid) for pid in below] == [None, None, None]
    assert not host.socket.exists()
    done = host.dni("status")
    assert (done.returncode, done.stdout) == (1, "")
    assert "`dni up`" in done.stderr
    assert "Traceback" not in host.log()


def test_a_second_dni_up_is_refused_with_the_pid_of_the_first(host: Host) -> None:
    assert host.process is not None
    done = host.dni("up")
    assert done.returncode == 1
    assert done.stderr.startswith("dni: `dni up` runs here already")
    assert f"pid {host.process.pid}" in done.stderr
    assert host.dockerd.call("Plugin.Activate")
