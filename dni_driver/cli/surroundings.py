# SPDX-License-Identifier: Apache-2.0
"""What dockerd meets on this host where it looks for plugins, and which programs of dni run: for `dni doctor`."""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from dni_driver.cli import locks
from dni_driver.cli.held import PROGRAM
from dni_driver.cli.settings import Settings
from dni_driver.core.doctor.facts import PluginFacts, PluginSocket, Program, Spec

_SOCKETS = Path("/run/docker/plugins")
_SPECS = (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))
_SPEC_NAMES = ("dni.spec", "dni/dni.spec", "dni.json", "dni/dni.json")
_PROBE_SECONDS = 1.0
_CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""

_PROC = Path("/proc")
_NAMESPACE = Path("/proc/self/ns/net")
_DNI = re.compile(r"(.*/)?dni")

_State = Literal["answers", "dead", "no-socket"]


class _JsonSpec(msgspec.Struct, frozen=True):
    """A `dni.json`, as far as it matters."""

    address: str = msgspec.field(name="Addr", default="")


def look(settings: Settings) -> PluginFacts:
    """Look at sockets, files and programs; raise OSError where this user may not."""
    own, api = settings.plugin.socket, settings.api.socket
    directory = settings.run.directory
    plugin = locks.holder(directory / "plugin.lock")
    return PluginFacts(
        socket=str(own),
        api=str(api),
        sockets=tuple(_socket(path) for path in _paths(own)),
        specs=tuple(_specs()),
        programs=tuple(Program(_keeper(pid), _is_known(pid, plugin)) for pid in _plugins()),
        plugin_runs=plugin is not None,
        agent_runs=locks.holder(directory / "agent.lock") is not None,
        api_mode=api.stat().st_mode & 0o777 if api.exists() else None,
    )


def _is_known(pid: int, holder: str | None) -> bool:
    """Tell whether a program is the one that holds the lock; a managed plugin's pid counts inside of it only."""
    return holder is not None and (holder == f"pid {pid}" or not holder.startswith("pid "))


def _paths(own: Path) -> list[Path]:
    """Answer where dockerd takes something for a plugin: NAME.sock, NAME/NAME.sock; and our own place."""
    found = [path for path in sorted(_SOCKETS.glob("*.sock")) if path.is_socket()]
    found += [
        path for path in sorted(_SOCKETS.glob("*/*.sock")) if path.stem == path.parent.name and path.is_socket()
    ]
    return found if own in found or not own.exists() else [own, *found]


def _socket(path: Path) -> PluginSocket:
    mode = path.stat().st_mode
    if not stat.S_ISSOCK(mode):
        return PluginSocket(path=str(path), state="no-socket", mode=mode & 0o777)
    state, listener = _probed(path)
    program = " ".join(_arguments(listener)) if listener else ""
    return PluginSocket(path=str(path), state=state, mode=mode & 0o777, listener=listener, program=program)


def _probed(path: Path) -> tuple[_State, int | None]:
    """Answer whether somebody listens, and who: its pid, where it is in sight."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return "dead", None
        except (TimeoutError, BlockingIOError):
            return "answers", None
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, _, _ = _CREDENTIALS.unpack(credentials)
    return "answers", pid or None


def _specs() -> Iterator[Spec]:
    for path in (directory / name for directory in _SPECS for name in _SPEC_NAMES):
        if path.is_file():
            yield Spec(str(path), _address(path))


def _address(spec: Path) -> str:
    text = spec.read_text(errors="replace").strip()
    if spec.suffix != ".json":
        return text
    try:
        return msgspec.json.decode(text, type=_JsonSpec).address
    except msgspec.DecodeError:
        return text


def _plugins() -> list[int]:
    """Answer the pids of all `dni serve plugin` in this network namespace: of their masters, not of their workers."""
    here = _NAMESPACE.stat()
    pids = [int(path.name) for path in _PROC.iterdir() if path.name.isdecimal()]
    found = [pid for pid in pids if _serves(_arguments(pid)) and _is_in(pid, here)]
    return [pid for pid in found if _parent(pid) not in found]


def _keeper(plugin: int) -> int:
    """Answer who starts a plugin again when it ends: `dni up`, where that runs it."""
    parent = _parent(plugin)
    return parent if parent is not None and PROGRAM in _arguments(parent) else plugin


def _serves(arguments: Sequence[str]) -> bool:
    """Tell whether a command line is `dni serve plugin`, with settings named before that or not."""
    is_dni = "dni_driver" in arguments or any(_DNI.fullmatch(word) for word in arguments[:2])
    return is_dni and tuple(arguments[-2:]) == ("serve", "plugin")


def _is_in(pid: int, namespace: os.stat_result) -> bool:
    try:
        return os.path.samestat((_PROC / str(pid) / "ns/net").stat(), namespace)
    except FileNotFoundError:
        return False


def _arguments(pid: int) -> list[str]:
    try:
        return (_PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parent(pid: int) -> int | None:
    try:
        status = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(status.rpartition(")")[2].split()[1])
