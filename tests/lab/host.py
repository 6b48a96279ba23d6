# SPDX-License-Identifier: Apache-2.0
"""A lab host: a node with a Docker Engine, on which dni can run."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from tests.lab import addresses, dni, image
from tests.lab.dockerd import Dockerd
from tests.lab.errors import CommandError
from tests.lab.node import SCRIPTS, Node

_NONE: Mapping[str, str] = MappingProxyType({})


class Host(Node):
    """One host of the lab. `address` and `address6` are its addresses on the link, on `eth0`."""

    def __init__(self, number: int, run: Path, *, engine_root: Path | None, image_archive: Path) -> None:
        """Name it and its addresses; `run` is the directory of the run, the first host is number 0."""
        address, address6 = addresses.of_host(number)
        super().__init__(f"h{number + 1}", run, address=address, address6=address6)
        self._dockerd = Dockerd(self, engine_root, cgroup=f"/{run.name}/{self.name}")
        self._dni = dni.Dni(self)
        self._image_archive = image_archive
        self._has_image = False

    def launch_dockerd(self, *, live_restore: bool = False, **settings: object) -> None:
        """Start dockerd without waiting. `settings` go to daemon.json, `_` in a name standing for `-`."""
        named = {name.replace("_", "-"): value for name, value in settings.items()}
        self._dockerd.launch({"live-restore": live_restore, **named})

    def wait_for_dockerd(self) -> None:
        """Wait until the Docker API answers and the image is there."""
        self._dockerd.wait_until_ready()
        if not self._has_image:
            self.docker("import", "--change", 'CMD ["sh"]', "-", image.NAME, stdin=self._image_archive.read_bytes())
            self._has_image = True

    def start_dockerd(self, *, live_restore: bool = False, **settings: object) -> None:
        """Start dockerd and wait until it is of use. Arguments as for launch_dockerd."""
        self.launch_dockerd(live_restore=live_restore, **settings)
        self.wait_for_dockerd()

    def stop_dockerd(self) -> None:
        """End dockerd as an administrator does: SIGTERM, and wait."""
        self._dockerd.stop()

    def kill_dockerd(self) -> None:
        """End dockerd with SIGKILL; its containers go on."""
        self._dockerd.kill()

    @property
    def dockerd_pid(self) -> int:
        """The pid of the running dockerd."""
        return self._dockerd.pid

    def docker(self, *words: str, stdin: str | bytes | None = None, timeout: float = 120) -> str:
        """Run a docker command with the engine's own client; its standard output, stripped."""
        done = self.try_docker(*words, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise CommandError(("docker", *words), done.returncode, done.stdout, done.stderr)
        return done.stdout.strip()

    def try_docker(
        self,
        *words: str,
        stdin: str | bytes | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """As docker, but answer also when it fails; what runs out of time says what dockerd was doing."""
        try:
            return self.try_run("docker", *words, stdin=stdin, timeout=timeout, mounts_of=self._dockerd.mounts_of)
        except CommandError as error:
            doing = self._dockerd.stacks()
            raise CommandError(error.argv, None, error.stdout, f"{error.stderr}\n{doing}") from error

    def launch_dni(self, env: Mapping[str, str] = _NONE, /, **settings: object) -> None:
        """Run `dni up` without waiting, each `section_key=value` as `DNI_SECTION_KEY`; `env` adds other variables."""
        self._dni.launch(settings, env)

    def start_dni(self, env: Mapping[str, str] = _NONE, /, **settings: object) -> None:
        """Run `dni up` and wait until its socket answers. Arguments as for launch_dni."""
        self.launch_dni(env, **settings)
        self.wait_for_dni()

    def wait_for_dni(self) -> None:
        """Wait until the plugin socket answers, after a kill of one of its programs for example."""
        self._dni.wait_until_ready()

    def stop_dni(self) -> None:
        """End `dni up` with SIGTERM, and wait."""
        self._dni.stop()

    def kill_dni(self, program: dni.Program) -> None:
        """SIGKILL one of dni's programs."""
        self._dni.kill(program)

    def dni_pid(self, program: dni.Program) -> int:
        """Answer the pid of one of dni's programs."""
        return self._dni.pid(program)

    def dni(self, *words: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run a `dni` command; its standard output, stripped."""
        return self.run(*dni.command(*words), stdin=stdin, timeout=timeout)

    def try_dni(
        self,
        *words: str,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """As dni, but answer also when it fails."""
        return self.try_run(*dni.command(*words), stdin=stdin, timeout=timeout)

    def switch_off(self) -> None:
        """Lose power: every process ends at once, and all that is only in memory is gone; the disk stays.

        `start_dni` and `start_dockerd` switch the host on again.
        """
        self._dni.kill("up")
        self._dockerd.kill()
        script = (SCRIPTS / "switch-off.sh").read_text()
        self.run("sh", "-s", "processes", stdin=script)
        for mounts in {self.pid, self._dockerd.mounts_of}:
            self.run("sh", "-s", "mounts", stdin=script, mounts_of=mounts)
        self.run("sh", "-s", "network", stdin=script)

    def logs(self, program: Literal["dockerd", "dni"]) -> str:
        """Answer what a program has written since the host came up."""
        log = self._dockerd.log if program == "dockerd" else self._dni.log
        return log.read_text(errors="replace") if log.exists() else ""
