# SPDX-License-Identifier: Apache-2.0
"""The Docker Engine of one lab host."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import time
from pathlib import Path

from tests.lab import stacks, unix_http
from tests.lab.errors import LabError
from tests.lab.node import SCRIPTS, Node

_READY_SECONDS = 60
_STOP_SECONDS = 60
_STACKS = "goroutine-stacks-*.log"
_STACKS_SECONDS, _STACKS_WRITTEN_SECONDS = 20, 1


class Dockerd:
    """A dockerd with the usual paths: /run, /var/lib/docker and /etc/docker are the node's own."""

    def __init__(self, node: Node, root: Path | None, cgroup: str) -> None:
        """Start nothing yet. `root` is the engine's root file system, None when it is the machine's."""
        self._node = node
        self._root = root
        self._cgroup = cgroup
        self._root_holder: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.log = node.directory / "dockerd.log"

    @property
    def mounts_of(self) -> int:
        """A process in the mount namespace of dockerd: the node's, or one with the engine's own root."""
        return self._node.pid if self._root_holder is None else self._root_holder.pid

    @property
    def pid(self) -> int:
        """The pid of the running dockerd."""
        return self._running().pid

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"dockerd does not run on {self._node.name}")
        return self._process

    def launch(self, settings: dict[str, object]) -> None:
        """Start dockerd with these keys in daemon.json, without waiting for it."""
        if self._process is not None and self._process.poll() is None:
            raise LabError(f"dockerd runs already on {self._node.name}")
        if self._root is not None and self._root_holder is None:
            self._root_holder = self._node.hold_root(SCRIPTS / "engine-root.sh", self._root)
        settings = {
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": self._cgroup,
            **settings,
        }
        self._node.path("/etc/docker/daemon.json").write_text(json.dumps(settings))
        self._process = self._node.spawn("dockerd", log=self.log, mounts_of=self.mounts_of)

    def wait_until_ready(self) -> None:
        """Wait until the API answers."""
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"dockerd of {self._node.name} does not start:\n{self._last_words()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, and wait for its end: containers stop, unless live-restore keeps them."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait: containers live on, containerd does not (dockerd had the kernel see to that)."""
        self._end(signal.SIGKILL)

    def stacks(self) -> str:
        """Answer what a dockerd that does not answer is doing; raise LabError where it does not say so either."""
        folder = self._node.path("/run/docker")
        before = set(folder.glob(_STACKS))
        self._running().send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + _STACKS_SECONDS
        while not (written := set(folder.glob(_STACKS)) - before):
            if time.monotonic() > deadline:
                raise LabError(f"dockerd of {self._node.name} does not say what it is doing")
            time.sleep(0.1)
        time.sleep(_STACKS_WRITTEN_SECONDS)
        return stacks.brief(written.pop().read_text(errors="replace"))

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise LabError(f"dockerd of {self._node.name} does not stop:\n{self._last_words()}") from None
        self._process = None

    def _answers(self) -> bool:
        try:
            return unix_http.request(self._node.path("/run/docker.sock"), "GET", "/_ping") == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
