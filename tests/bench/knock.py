# SPDX-License-Identifier: Apache-2.0
"""Knocks at a closed UDP port of each address until all have said that nobody is in; writes when that was.

usage: knock.py ADDRESS...
"""

from __future__ import annotations

import socket
import sys
import time

_PORT = 9
_EVERY = 0.02


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.settimeout(_EVERY)
        try:
            ours.connect((address, _PORT))
            ours.send(b"knock")
            ours.recv(1)
        except ConnectionRefusedError:
            return True
        except OSError:
            time.sleep(_EVERY)
    return False


for target in sys.argv[1:]:
    while not _answers(target):
        pass
sys.stdout.write(f"{time.perf_counter()}\n")
