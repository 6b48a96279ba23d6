# SPDX-License-Identifier: Apache-2.0
"""Real traffic between two namespaces, as much as there can be."""

from __future__ import annotations

import subprocess

from tests import iperf
from tests.root.ground import Namespace

_PATIENCE = 30.0


def bits_per_second(
    client: Namespace, server: Namespace, address: object, limit: int, protocol: iperf.Protocol, *, from_server: bool
) -> float:
    """Answer how much payload gets from the client to a server at an address, or the other way."""
    with server.run(subprocess.Popen, iperf.SERVER, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            while iperf.LISTENING not in serving.stdout.readline():
                assert serving.poll() is None, "iperf3 does not serve"
            argv = iperf.client(address, limit, protocol, from_server=from_server)
            done = client.run(subprocess.run, argv, capture_output=True, text=True, timeout=_PATIENCE, check=False)
            assert done.returncode == 0, done.stdout
            return iperf.received(done.stdout)
        finally:
            serving.kill()
