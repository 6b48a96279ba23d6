# SPDX-License-Identifier: Apache-2.0
"""A machine of the lab that systemd runs, with Docker's own units: what an administrator installs dni on."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.lab import addresses, image, wheels
from tests.lab.errors import CommandError, LabError
from tests.lab.node import REPOSITORY, SCRIPTS, Node

_UNITS = ("docker.socket", "docker.service")
_READY_SECONDS = 60


class Machine(Node):
    """A node whose process 1 is systemd. What is written to its root file system is gone with it.

    The repository is there, at its own path, to be read.
    """

    environment: ClassVar[Mapping[str, str]] = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
    }

    def __init__(self, number: int, run: Path, *, engine_root: Path | None, image_archive: Path) -> None:
        """Name it and its addresses; `engine_root` as for a Host."""
        address, address6 = addresses.of_host(number)
        super().__init__(f"m{number + 1}", run, address=address, address6=address6)
        self._engine_root = engine_root
        self._image_archive = image_archive

    def _init(self) -> tuple[str, ...]:
        script = str(SCRIPTS / "machine-init.sh")
        cgroup = f"{self.directory.parent.name}/{self.name}"
        return script, str(self.directory), self.name, str(addresses.OUTSIDE), str(REPOSITORY), cgroup

    def _wait_until_booted(self) -> None:
        """Wait until systemd has started what it starts at boot; a unit that failed is a LabError."""
        ends = time.monotonic() + _READY_SECONDS
        while (state := self.try_run("systemctl", "is-system-running").stdout.strip()) != "running":
            if state == "degraded" or time.monotonic() > ends:
                failed = self.try_run("systemctl", "--failed").stdout
                raise LabError(f"{self.name} is {state or 'silent'}:\n{failed}")
            time.sleep(0.05)

    def start_docker(self) -> None:
        """Enable Docker's units as its packages do, start them, and load the image."""
        self._wait_until_booted()
        settings = {"exec-opts": ["native.cgroupdriver=cgroupfs"]}
        self.write("/etc/docker/daemon.json", json.dumps(settings))
        if self._engine_root is not None:
            self._use_engine(self._engine_root)
        self.systemctl("enable", "--now", *_UNITS)
        self.docker("import", "--change", 'CMD ["sh"]', "-", image.NAME, stdin=self._image_archive.read_bytes())

    def _use_engine(self, root: Path) -> None:
        """Have Docker's units start another engine, with its own containerd, in its own root file system."""
        engine = f"unshare --mount --propagation unchanged {SCRIPTS / 'engine-root.sh'} {root} {self.directory}"
        drop_in = f"[Service]\nExecStart=\nExecStart={engine} dockerd -H fd://\n"
        self.write("/etc/systemd/system/docker.service.d/engine.conf", drop_in)
        self.systemctl("mask", "containerd.service")

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine, with the directories above it."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def systemctl(self, *words: str, timeout: float = 120) -> str:
        """Run a systemctl command; its standard output, stripped."""
        return self.run("systemctl", *words, timeout=timeout)

    def make(self, *words: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run make in the repository, with Debian's Python and packages from wheels that are there already."""
        offline = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels.directory())}
        argv = ("make", "--directory", str(REPOSITORY), "PYTHON=/usr/bin/python3", *words)
        return self.try_run(*argv, env=offline, timeout=timeout)

    def journal(self, unit: str) -> str:
        """Answer what a unit has written."""
        return self.run("journalctl", "--no-pager", "--output", "cat", "--unit", unit)

    def docker(self, *words: str, stdin: str | bytes | None = None, timeout: float = 120) -> str:
        """Run a docker command; its standard output, stripped."""
        return _output(self.try_docker(*words, stdin=stdin, timeout=timeout))

    def try_docker(
        self, *words: str, stdin: str | bytes | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """As docker, but answer also when it fails."""
        return self.try_run("docker", *words, stdin=stdin, timeout=timeout)

    def dni(self, *words: str) -> str:
        """Run the installed `dni`; its standard output, stripped."""
        return _output(self.try_dni(*words))

    def try_dni(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As dni, but answer also when it fails."""
        return self.try_run("dni", *words)


def _output(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode != 0:
        raise CommandError(done.args, done.returncode, done.stdout, done.stderr)
    return done.stdout.strip()
