# SPDX-License-Identifier: Apache-2.0
"""Sends a datagram to each peer again and again, and notes what it sends and gets.

usage: pulse.py ADDRESS FOLDER. `FOLDER/peers` holds the addresses of all, a line each; it may change. Notes go to
`FOLDER/ADDRESS`: `s PEER NUMBER SENT`, and `r SENDER NUMBER SENT RECEIVED`, in seconds of the monotonic clock, which
all of a machine share; and `e PEER NUMBER SENT ERROR` where the kernel would not send.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from pathlib import Path

_EVERY = 0.1
_PORT = 7777


def _run(own: str, folder: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours, (folder / own).open("a", buffering=1) as notes:
        ours.bind((own, _PORT))
        ours.settimeout(0)
        number, due = 0, time.monotonic()
        while True:
            while select.select([ours], [], [], max(0.0, due - time.monotonic()))[0]:
                data, (sender, _) = ours.recvfrom(100)
                notes.write(f"r {sender} {data.decode()} {time.monotonic():.4f}\n")
            due += _EVERY
            for peer in set((folder / "peers").read_text().split()) - {own}:
                number += 1
                text = f"{number} {time.monotonic():.4f}"
                notes.write(f"s {peer} {text}\n")
                try:
                    ours.sendto(text.encode(), (peer, _PORT))
                except OSError as error:
                    notes.write(f"e {peer} {text} {error}\n")


_run(sys.argv[1], Path(sys.argv[2]))
