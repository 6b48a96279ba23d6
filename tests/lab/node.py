# SPDX-License-Identifier: Apache-2.0
"""A machine of the lab, made of namespaces."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.lab import addresses, births, procfs
from tests.lab.errors import CommandError, LabError

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).resolve().parent
_END_SECONDS = 2.0
"""How long a node takes to end, when nothing keeps it."""
_ENVIRONMENT: Mapping[str, str] = {
    # The distribution's commands before /usr/local's, which may hold another Docker client.
    "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin",
    "PYTHONPATH": str(REPOSITORY),
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class Node:
    """Namespaces for network, mounts, processes and host name, held by a keeper: their process 1.

    The root file system is the machine's, with /proc, /sys, /run, /etc and /var/lib its own. Everything here
    ends with the keeper, and the keeper with the process that made it.
    """

    environment: ClassVar[Mapping[str, str]] = _ENVIRONMENT
    """What commands in the node find in theirs."""

    def __init__(self, name: str, run: Path, *, address: str = "", address6: str = "") -> None:
        """Name it, without making it; `run` is the directory of the run."""
        self.name = name
        self.directory = run / name
        """What the node has on disk: the same path inside, outside, and for `docker run -v`."""
        self.address = address
        self.address6 = address6
        self._keeper: subprocess.Popen[bytes] | None = None
        self._spawned: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> int:
        """The keeper's pid as this process knows it; `nsenter --target` takes it."""
        if self._keeper is None:
            raise LabError(f"{self.name} is not up")
        return self._keeper.pid

    def boot(self) -> None:
        """Make the namespaces and the mounts."""
        self.directory.mkdir(parents=True)
        unshare = ("unshare", "--net", "--uts", "--mount", "--propagation", "private", "--")
        with births.in_new_namespace(), (self.directory / "node.log").open("ab") as log:
            self._keeper = subprocess.Popen(
                [*unshare, *self._init()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for the lab, which takes the node down in its turn
            )
        record_keeper(self.directory, self.pid)
        self._expect_ready(self._keeper)

    def _init(self) -> tuple[str, ...]:
        """Answer the command that becomes process 1 of the node, once it has written `ready`."""
        script = str(SCRIPTS / "node-init.sh")
        return script, str(self.directory), self.name, str(addresses.OUTSIDE), sys.executable

    def remove(self) -> None:
        """End every process of the node; its namespaces, links and mounts go with them."""
        if self._keeper is None:
            return
        with contextlib.ExitStack() as reaping:
            # The keeper is reaped last: it ends only when all others are.
            reaping.callback(_reap, self._keeper)
            reaping.callback(_reap_strays, self._keeper)
            for process in self._spawned:
                reaping.callback(_reap, process)
            self._keeper.kill()
        self._keeper = None
        self._spawned.clear()

    def path(self, inside: str) -> Path:
        """Answer a file or socket of the node as a path for this process; absolute links lead out of it."""
        return Path(f"/proc/{self.pid}/root") / inside.lstrip("/")

    def enter_command(self) -> str:
        """Answer the command line that opens a shell in the node."""
        settings = shlex.join(f"{key}={value}" for key, value in _ENVIRONMENT.items())
        return f"env {settings} nsenter --target {self.pid} --net --uts --mount --pid -- bash"

    def spawn(
        self,
        *argv: str,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
        mounts_of: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command in the node and leave it running.

        Its output is appended to `log`. `env` adds to the environment. `mounts_of` is a process whose mount
        namespace to take instead of the node's. The pid of what is returned is the command's own.
        """
        with contextlib.ExitStack() as stack:
            output = subprocess.DEVNULL if log is None else stack.enter_context(log.open("ab"))
            stack.enter_context(births.beside(self.pid))
            process = subprocess.Popen(
                self._entered(argv, mounts_of),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**self.environment, **(env or {})},
                start_new_session=True,
            )
        self._spawned = [earlier for earlier in self._spawned if earlier.poll() is None]
        self._spawned.append(process)
        return process

    def try_run(
        self,
        *argv: str,
        stdin: str | bytes | None = None,
        timeout: float = 120,
        env: Mapping[str, str] | None = None,
        mounts_of: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the node to its end, `timeout` seconds at most (then CommandError)."""
        with births.beside(self.pid):
            process = subprocess.Popen(
                self._entered(argv, mounts_of),
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**self.environment, **(env or {})},
            )
        with process:
            try:
                output = process.communicate(stdin.encode() if isinstance(stdin, str) else stdin, timeout)
            except subprocess.TimeoutExpired as expiry:
                process.kill()
                raise CommandError(argv, None, _text(expiry.stdout), _text(expiry.stderr)) from None
            except BaseException:
                process.kill()
                process.wait()  # KeyboardInterrupt keeps Popen from it, and the node cannot end before
                raise
        return subprocess.CompletedProcess(list(argv), process.returncode, *map(_text, output))

    def run(
        self,
        *argv: str,
        stdin: str | bytes | None = None,
        timeout: float = 120,
        env: Mapping[str, str] | None = None,
        mounts_of: int | None = None,
    ) -> str:
        """As try_run, but answer standard output, stripped; a status other than 0 is a CommandError."""
        done = self.try_run(*argv, stdin=stdin, timeout=timeout, env=env, mounts_of=mounts_of)
        if done.returncode != 0:
            raise CommandError(argv, done.returncode, done.stdout, done.stderr)
        return done.stdout.strip()

    def hold_root(self, script: Path, root: Path) -> subprocess.Popen[bytes]:
        """Start a script that gives a copy of the node's mount namespace another root, and wait for it."""
        unshare = ("unshare", "--mount", "--propagation", "unchanged", "--")
        argv = self._entered((*unshare, str(script), str(root), str(self.directory)), None)
        with births.beside(self.pid), (self.directory / "node.log").open("ab") as log:
            holder = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=_ENVIRONMENT
            )
        self._spawned.append(holder)
        self._expect_ready(holder)
        return holder

    def _entered(self, argv: tuple[str, ...], mounts_of: int | None) -> list[str]:
        mounts = f"--mount=/proc/{mounts_of or self.pid}/ns/mnt"
        return ["nsenter", "--target", str(self.pid), "--net", "--uts", mounts, "--", *argv]

    def _expect_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the line `ready` of a script of ours."""
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            log = (self.directory / "node.log").read_text(errors="replace")
            raise LabError(f"{self.name} does not come up: {log.strip()}")


def record_keeper(directory: Path, pid: int) -> None:
    """Note whose death ends the node, for a sweep that comes after the death of the lab."""
    (directory / "keeper").write_text(f"{pid} {procfs.start_time(pid)}\n")


def kill_recorded_keeper(directory: Path) -> None:
    """End the node that lived in this directory, if it still does."""
    try:
        pid, started = map(int, (directory / "keeper").read_text().split())
    except (FileNotFoundError, ValueError):
        return  # the lab died before the record: the keeper saw its standard input close
    procfs.kill(pid, started)


def _reap_strays(keeper: subprocess.Popen[bytes]) -> None:
    """Reap our dead that keep a node from its end: Ctrl-C can come before anybody knows of a child."""
    try:
        keeper.wait(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in procfs.children(os.getpid()):
            if procfs.start_time(pid) is None:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def _reap(process: subprocess.Popen[bytes]) -> None:
    process.wait(timeout=30)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _text(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace")
