# SPDX-License-Identifier: Apache-2.0
"""Real traffic between two namespaces, as much as there can be."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import iperf
from tests.root.ground import Namespace

_PATIENCE = 30.0
_WARMING_UP, _SECONDS = 1.0, 2.0


def bits_per_second(
    client: Namespace, server: Namespace, address: object, limit: int, protocol: iperf.Protocol, *, from_server: bool
) -> float:
    """Answer how much payload gets from the client to a server at an address, or the other way."""
    with _serving(server):
        argv = iperf.client(address, limit, protocol, from_server=from_server)
        done = client.run(subprocess.run, argv, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        assert done.returncode == 0, done.stdout
        return iperf.received(done.stdout)


def frames_per_second(
    client: Namespace, server: Namespace, address: object, limit: int, *, from_server: bool
) -> float:
    """Answer how many bits of whole frames a second reach the link of who is sent a quarter more datagrams than that.

    Counted on the link, because a program on a busy machine may have no time for all that arrives; and in no less
    time than it came in.
    """
    receiver = client if from_server else server
    argv = iperf.client(address, limit, "udp", from_server=from_server)
    with _serving(server), client.run(subprocess.Popen, argv, stdout=subprocess.PIPE, text=True) as sending:
        time.sleep(_WARMING_UP)
        began, before = time.monotonic(), receiver.run(_arrived)
        time.sleep(_SECONDS)
        after, ended = receiver.run(_arrived), time.monotonic()
        report, _ = sending.communicate(timeout=_PATIENCE)
        assert sending.returncode == 0, report
    return (after - before) * 8 / (ended - began)


def _arrived() -> int:
    """Answer how many bytes of frames have come in by eth0."""
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.split()[0] == "eth0:")


@contextmanager
def _serving(server: Namespace) -> Iterator[None]:
    with server.run(subprocess.Popen, iperf.SERVER, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            while iperf.LISTENING not in serving.stdout.readline():
                assert serving.poll() is None, "iperf3 does not serve"
            yield
        finally:
            serving.kill()
