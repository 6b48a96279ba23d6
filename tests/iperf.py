# SPDX-License-Identifier: Apache-2.0
"""What iperf3 measures of a connection, and how near to a limit that must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

Protocol = Literal["tcp", "udp"]

SERVER = ("iperf3", "--server", "--one-off", "--forceflush")
LISTENING = "Server listening"

_SECONDS = 3
_WARMING_UP = 1
"""Seconds before them, which do not count: TCP has yet to find its pace, and the bucket is full."""
_DATAGRAM = 1400
"""Bytes of payload, so that a datagram fills a packet of an overlay."""

_LEAST = 0.90
"""What must be reached of a limit: by payload of TCP, which is 95 % of what a limit counts, or by whole frames."""
MOST = 1.02
"""What may be reached of a limit: a burst lasts a hundredth of a second."""


_TRIES = 3
"""Of which the best counts: sender, receiver and bridge share the machine with whatever else runs."""


def is_filled_and_kept(limit: int, measure: Callable[[], float]) -> bool:
    """Tell whether a limit in bits a second is reached by one of a few tries, and exceeded by none of those made."""
    for _ in range(_TRIES):
        seen = measure()
        if seen >= _LEAST * limit:
            return seen <= MOST * limit
    return False


def client(server: object, limit: int, protocol: Protocol, *, from_server: bool) -> list[str]:
    """Answer the command that measures in one direction; of datagrams it sends a quarter more than the limit."""
    argv = ["iperf3", "--client", str(server), "--time", str(_SECONDS), "--omit", str(_WARMING_UP), "--json"]
    if protocol == "udp":
        argv += ["--udp", "--length", str(_DATAGRAM), "--bitrate", str(limit * 5 // 4)]
    return [*argv, "--reverse"] if from_server else argv


def received(report: str) -> float:
    """Answer the bits of payload a second that came through, from what the client writes."""
    return float(json.loads(report)["end"]["sum_received"]["bits_per_second"])
