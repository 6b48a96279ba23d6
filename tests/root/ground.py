# SPDX-License-Identifier: Apache-2.0
"""Network namespaces without a name: the kernel takes them away when the last of their files is closed.

So nothing is left behind, whatever becomes of the test run. Each has a thread inside, and work is sent there.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

_CLONE_NEWNET = 0x40000000
_CLONE_NEWNS = 0x00020000

P = ParamSpec("P")
T = TypeVar("T")


class Namespace:
    """A network namespace of its own, with loopback up."""

    def __init__(self) -> None:
        """Make it."""
        self._inside = ThreadPoolExecutor(1)
        self._file = self._inside.submit(_leave_for_a_new_one).result()
        self.sh("ip link set lo up")

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it to the kernel."""
        self._inside.shutdown()
        os.close(self._file)

    @property
    def path(self) -> str:
        """Answer a path that opens it, as dockerd's netns files do."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do some work inside; what it starts is inside too."""
        return self._inside.submit(work, *args, **kwargs).result()

    def sh(self, *commands: str) -> str:
        """Run commands inside; answer what the last one wrote, raise where one fails."""
        output = ""
        for command in commands:
            done = self.run(subprocess.run, shlex.split(command), capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}: {done.stderr}"
            output = done.stdout
        return output

    def sysctl(self, key: str, value: object) -> None:
        """Set a kernel setting inside."""
        self.run(Path("/proc/sys/net", key).write_text, str(value))

    def setting(self, key: str) -> str:
        """Read a kernel setting inside."""
        return self.run(Path("/proc/sys/net", key).read_text).strip()


def _leave_for_a_new_one() -> int:
    _unshare(_CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def cover(folder: Path, other: Path) -> None:
    """Have the calling thread, and what it starts, see a folder in the place of another."""
    _unshare(_CLONE_NEWNS)
    for mount in (["--make-rprivate", "/"], ["--bind", str(folder), str(other)]):
        subprocess.run(["mount", *mount], check=True)


def _unshare(what: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(what) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def wire(one: Namespace, name: str, other: Namespace, other_name: str) -> None:
    """Lay a veth pair between two namespaces, both ends up."""
    one.sh(f"ip link add {name} type veth peer name {other_name} netns {other.path}", f"ip link set {name} up")
    other.sh(f"ip link set {other_name} up")
