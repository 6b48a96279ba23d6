# SPDX-License-Identifier: Apache-2.0
"""What a packet costs on its way, in processor time: steady where throughput is not.

Links of one machine hand a packet on within the sender's own time: whatever is done with it on both hosts, until
it lies in the receiver's socket, counts as the sender's, and little of what others do at the same time.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import closing

from tests.root.ground import Namespace

_PORT = 7777
_PAYLOAD = bytes(1000)
_PACKETS = 1000
_PATIENCE = 5.0


def cost(client: Namespace, server: Namespace, address: str) -> float:
    """Answer the seconds that a packet of a connection takes."""
    receiver = server.run(_receiver, address)
    sender = client.run(_sender, address)
    with closing(receiver), closing(sender):
        sender.send(b"hello")
        _, caller = receiver.recvfrom(len(_PAYLOAD))
        receiver.sendto(b"hello", caller)
        sender.recv(len(_PAYLOAD))
        return client.run(_timed, sender)


def _receiver(address: str) -> socket.socket:
    """Make a socket that keeps next to nothing: what is not read is dropped as the last step."""
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    found.settimeout(_PATIENCE)
    found.bind((address, _PORT))
    return found


def _sender(address: str) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.settimeout(_PATIENCE)
    found.connect((address, _PORT))
    return found


def _timed(sender: socket.socket) -> float:
    """Send on one processor, before everybody else: as long as this is, nobody takes the sender's place on it."""
    before, before_policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    os.sched_setaffinity(0, {max(before)})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        started = time.thread_time()
        for _ in range(_PACKETS):
            sender.send(_PAYLOAD)
        return (time.thread_time() - started) / _PACKETS
    finally:
        os.sched_setscheduler(0, before_policy, os.sched_param(0))
        os.sched_setaffinity(0, before)
