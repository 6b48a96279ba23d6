# SPDX-License-Identifier: Apache-2.0
"""What a packet costs on its way, in processor time: steady where throughput is not.

Links of one machine hand a packet on within the sender's own time: whatever is done with it on both hosts, until
it lies in the receiver's socket, counts as the sender's, and little of what others do at the same time.

`python -m tests.bench.packets receive ADDRESS` and `… send ADDRESS` are the two ends in places that are entered by
command.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from contextlib import closing

from tests.root.ground import Namespace

PORT = 7777
_PAYLOAD = bytes(1000)
_PACKETS = 1000
_BATCHES = 20
_PATIENCE = 10.0


def cost(client: Namespace, server: Namespace, address: str) -> float:
    """Answer the seconds that a packet of a connection takes."""
    receiver, sender = server.run(_receiver, address), client.run(_sender, address)
    with closing(receiver), closing(sender):
        sender.send(b"hello")
        _answer(receiver)
        sender.recv(len(_PAYLOAD))
        return client.run(_batch, sender)


def steady(costs: list[float]) -> float:
    """Answer what lies at a fifth of some measurements: whatever disturbs one makes it dearer."""
    return sorted(costs)[len(costs) // 5]


def main(end: str, address: str) -> None:
    """Be one end: receive until killed, or send some batches and print the seconds that a packet took in each."""
    if end == "receive":
        with closing(_receiver(address)) as receiver:
            _answer(receiver)
            signal.pause()
    else:
        with closing(_sender(address)) as sender:
            sender.send(b"hello")
            sender.recv(len(_PAYLOAD))
            sys.stdout.write(json.dumps([_batch(sender) for _ in range(_BATCHES)]))


def _receiver(address: str) -> socket.socket:
    """Make a socket that keeps next to nothing: what is not read is dropped as the last step."""
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    found.settimeout(_PATIENCE)
    found.bind((address, PORT))
    return found


def _answer(receiver: socket.socket) -> None:
    """Answer the first datagram, so that there is a connection."""
    said, caller = receiver.recvfrom(len(_PAYLOAD))
    receiver.sendto(said, caller)


def _sender(address: str) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.settimeout(_PATIENCE)
    found.connect((address, PORT))
    return found


def _batch(sender: socket.socket) -> float:
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


if __name__ == "__main__":
    main(*sys.argv[1:])
