# SPDX-License-Identifier: Apache-2.0
"""The socket that dockerd finds: bound here, or handed over by systemd or `dni up`."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from dni_driver.core.errors import Unavailable

FIRST_INHERITED = 3
"""sd_listen_fds(3): SD_LISTEN_FDS_START."""

_BACKLOG = 4096
"""Calls that may wait while no plugin runs; the kernel caps it at net.core.somaxconn."""

_UMASK = 0o117
"""Mode 0660: root and the directory's group, nobody else."""

_PROBE_SECONDS = 1.0


def handed_over() -> bool:
    """Tell whether this process was given a listening socket; raise Unavailable where it was given several."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return False
    if os.environ.get("LISTEN_FDS") != "1":
        raise Unavailable(f"LISTEN_FDS is {os.environ.get('LISTEN_FDS')}: the plugin takes one socket")
    return True


def listen(path: Path) -> socket.socket:
    """Listen on a path, in place of what a dead process left there.

    Raises Unavailable where somebody listens already, or the path cannot be used.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        _bind(listener, path)
    except OSError as error:
        listener.close()
        raise Unavailable(f"cannot listen on {path}: {error.strerror or error}") from None
    except Unavailable:
        listener.close()
        raise
    listener.listen(_BACKLOG)
    return listener


def _bind(listener: socket.socket, path: Path) -> None:
    before = os.umask(_UMASK)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_socket():
        raise Unavailable(f"cannot listen on {path}: it is no socket; move it away")
    if _answers(path):
        raise Unavailable(f"somebody listens on {path} already: stop that first, such as dni-plugin.socket")
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            return True  # its queue is full
    return True
