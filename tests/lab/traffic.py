# SPDX-License-Identifier: Apache-2.0
"""Traffic between all pairs of some containers, ten datagrams a second each way, and what of it was lost."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.lab.errors import LabError
from tests.lab.host import Host
from tests.lab.node import SCRIPTS, Node

ARRIVED_SECONDS = 2.0
"""What has not arrived after so long is lost."""
_PAUSE = 0.2
LATE_SECONDS = 0.25


class Packet(NamedTuple):
    """A datagram: from which address to which, and when; `received` is None where it was lost."""

    sender: str
    target: str
    sent: float
    received: float | None

    def concerns(self, addresses: set[str]) -> bool:
        """Tell whether one of these sent it or was to get it."""
        return self.sender in addresses or self.target in addresses


class _Sent(NamedTuple):
    """What tells a datagram from all others: who leaves and joins again begins with number 1 again."""

    sender: str
    number: int
    moment: float


class Traffic:
    """Who takes part, by their addresses. Its processes end with the hosts they run on."""

    def __init__(self, folder: Path) -> None:
        """Begin with nobody; `folder` is seen from every host."""
        self._folder = folder
        self._pulses: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir()
        self._tell()

    @property
    def addresses(self) -> list[str]:
        """Answer who takes part."""
        return list(self._pulses)

    def join(self, host: Host, container: str, address: str) -> None:
        """Have a container take part from now on."""
        pid = host.docker("inspect", "--format", "{{.State.Pid}}", container)
        self._begin(host, address, "nsenter", f"--net=/proc/{pid}/ns/net")

    def join_itself(self, node: Node) -> None:
        """Have a node take part, by its own address."""
        self._begin(node, node.address)

    def _begin(self, node: Node, address: str, *enter: str) -> None:
        pulse = (sys.executable, "-I", "-S", str(SCRIPTS / "pulse.py"), address, str(self._folder))
        notes, complaints = self._folder / address, self._folder / "complaints"
        notes.unlink(missing_ok=True)
        self._pulses[address] = process = node.spawn(*enter, *pulse, log=complaints)
        while not notes.exists():
            if process.poll() is not None:
                raise LabError(f"no traffic from {address}: {complaints.read_text()}")
            time.sleep(0.02)
        self._tell()

    def leave(self, address: str) -> None:
        """Have a container take part no longer."""
        pulse = self._pulses.pop(address)
        self._tell()
        pulse.kill()
        pulse.wait(60)

    def packets(self, since: float, until: float | None = None) -> list[Packet]:
        """Answer what was sent after a moment of the monotonic clock; waits until it has arrived, or is lost."""
        until = time.monotonic() if until is None else until
        time.sleep(_PAUSE)
        while lost(found := self._between(since, until)) and time.monotonic() < until + ARRIVED_SECONDS:
            time.sleep(_PAUSE)
        return found

    def _between(self, since: float, until: float) -> list[Packet]:
        arrived = dict(self._arrived())
        return [
            Packet(sent.sender, target, sent.moment, arrived.get(sent))
            for target, sent in self._sent()
            if since <= sent.moment <= until and {sent.sender, target} <= set(self._pulses)
        ]

    def flows(self, seconds: float = 1.0) -> bool:
        """Tell whether all that was sent within the last seconds has arrived, for every pair."""
        now = time.monotonic()
        packets = self.packets(now - seconds, now)
        pairs = {(packet.sender, packet.target) for packet in packets if packet.received is not None}
        return not lost(packets) and len(pairs) == len(self._pulses) * (len(self._pulses) - 1)

    def _tell(self) -> None:
        fresh = self._folder / "peers.new"
        fresh.write_text("\n".join(self._pulses))
        fresh.replace(self._folder / "peers")

    def _sent(self) -> Iterator[tuple[str, _Sent]]:
        for own, words in self._notes("s"):
            yield words[0], _Sent(own, int(words[1]), float(words[2]))

    def _arrived(self) -> Iterator[tuple[_Sent, float]]:
        for _, words in self._notes("r"):
            yield _Sent(words[0], int(words[1]), float(words[2])), float(words[3])

    def _notes(self, kind: str) -> Iterator[tuple[str, list[str]]]:
        """Answer the notes of each address, but for a line that is being written."""
        for own in self._pulses:
            notes = self._folder / own
            for line in notes.read_text().splitlines(keepends=True) if notes.exists() else ():
                words = line.split()
                if line.endswith("\n") and words[0] == kind:
                    yield own, words[1:]


def lost(packets: list[Packet]) -> list[Packet]:
    """Answer those that did not arrive."""
    return [packet for packet in packets if packet.received is None]


def late(packets: list[Packet]) -> list[Packet]:
    """Answer those that took long."""
    return [packet for packet in packets if packet.received and packet.received - packet.sent > LATE_SECONDS]


def in_words(packets: list[Packet], since: float) -> str:
    """Say what was lost and late, pair by pair, with the seconds since a moment of the first and the last."""
    missing, slow = lost(packets), late(packets)
    lines = [f"{len(packets)} sent, {len(missing)} lost, {len(slow)} late"]
    for title, some in (("lost", missing), ("late", slow)):
        for pair in sorted({(packet.sender, packet.target) for packet in some}):
            times = [packet.sent - since for packet in some if (packet.sender, packet.target) == pair]
            lines.append(f"{' > '.join(pair)}: {len(times)} {title}, {min(times):.1f} s to {max(times):.1f} s")
    return "; ".join(lines)
