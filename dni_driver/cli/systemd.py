# SPDX-License-Identifier: Apache-2.0
"""What systemd is told (sd_notify(3)); silent where nobody asked."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial

NOTIFY_SOCKET = "NOTIFY_SOCKET"

Notify = Callable[[str], None]


def notify(state: str) -> None:
    """Send a state such as `READY=1` to the service manager; one that does not listen is no error."""
    _send(os.environ.get(NOTIFY_SOCKET), state)


def only_notifier() -> Notify:
    """Answer what sends states like `notify`, and hide the service manager from the rest of this process.

    gunicorn would tell it READY on its own account, before a call can be answered.
    """
    return partial(_send, os.environ.pop(NOTIFY_SOCKET, None))


def _send(address: str | None, state: str) -> None:
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(state.encode(), address)
        except OSError:
            return
