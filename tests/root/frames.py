# SPDX-License-Identifier: Apache-2.0
"""Frames put together byte by byte, as a forger would, and whether they get through."""

from __future__ import annotations

import secrets
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address

from tests.root.ground import Namespace

BROADCAST = "ff:ff:ff:ff:ff:ff"
IPV4, ARP, VLAN, IPV6, QINQ = 0x0800, 0x0806, 0x8100, 0x86DD, 0x88A8
REQUEST, REPLY = 1, 2
SOLICIT_ROUTER, ADVERTISE_ROUTER, SOLICIT, ADVERTISE, LISTENER_REPORT = 133, 134, 135, 136, 143
UDP, DESTINATION_OPTIONS, ICMPV6 = 17, 60, 58
EVERYBODY = IPv6Address("ff02::1")
_ALL = 0x0003
_MARK = 16
_PATIENCE = 30.0


def ether(sender: str, kind: int, payload: bytes, receiver: str = BROADCAST) -> bytes:
    """Build a frame; a `kind` below 0x600 is its length, as in IEEE 802.3."""
    return _mac(receiver) + _mac(sender) + struct.pack("!H", kind) + payload


def arp(operation: int, mac: str, owner: IPv4Address, target: IPv4Address) -> bytes:
    """Build an ARP packet in which `owner` is said to be at `mac`."""
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    return head + _mac(mac) + owner.packed + bytes(6) + target.packed


def ipv4(source: IPv4Address) -> bytes:
    """Build a UDP datagram over IPv4, to everybody."""
    datagram = _udp()
    length = 20 + len(datagram) + _MARK
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, UDP, 0, source.packed, b"\xff" * 4)
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + datagram


def ipv6(source: IPv6Address, payload: bytes, following: int = UDP) -> bytes:
    """Build an IPv6 packet to everybody with any payload, `following` being what kind that is."""
    head = struct.pack("!IHBB", 6 << 28, len(payload) + _MARK, following, 255)
    return head + source.packed + EVERYBODY.packed + payload


def udp6(source: IPv6Address) -> bytes:
    """Build a UDP datagram over IPv6."""
    return ipv6(source, _udp())


def icmp6(source: IPv6Address, kind: int, body: bytes = bytes(4), *, behind_options: bool = False) -> bytes:
    """Build an ICMPv6 message, behind an empty header of destination options for example; nobody checks its sum."""
    message = struct.pack("!BBH", kind, 0, 0) + body
    if behind_options:
        return ipv6(source, struct.pack("!BBBBI", ICMPV6, 0, 1, 4, 0) + message, DESTINATION_OPTIONS)
    return ipv6(source, message, ICMPV6)


def about(target: IPv6Address) -> bytes:
    """Build what a neighbour solicitation or advertisement says."""
    return bytes(4) + target.packed


def tagged(kind: int, vlan: int, inner: int, payload: bytes) -> tuple[int, bytes]:
    """Put a VLAN tag before a payload; answer the kind of frame that makes, and its payload."""
    return kind, struct.pack("!HH", vlan, inner) + payload


def _udp() -> bytes:
    return struct.pack("!HHHH", 7000, 7000, 8 + _MARK, 0)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _sum(head: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(head) // 2}H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


class Ear:
    """Hears every frame that comes to a link of a namespace."""

    def __init__(self, namespace: Namespace, link: str) -> None:
        """Begin to listen."""
        self._socket = namespace.run(_raw, link)
        self._heard = b""

    def heard(self, mark: bytes) -> bool:
        """Tell whether a frame with this mark has come by now."""
        self._collect()
        return mark in self._heard

    def wait(self, mark: bytes) -> None:
        """Wait for a frame with this mark."""
        ends = time.monotonic() + _PATIENCE
        while not self.heard(mark):
            assert time.monotonic() < ends, "an honest frame was lost"
            time.sleep(0.002)

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()

    def _collect(self) -> None:
        while True:
            try:
                self._heard += self._socket.recv(65536)
            except BlockingIOError:
                return


@contextmanager
def listening(*places: tuple[Namespace, str]) -> Iterator[list[Ear]]:
    """Listen on links of namespaces."""
    ears = [Ear(namespace, link) for namespace, link in places]
    try:
        yield ears
    finally:
        for ear in ears:
            ear.close()


def send(sender: Namespace, frame: bytes, link: str = "eth0") -> bytes:
    """Send a frame with a mark at its end; answer the mark."""
    mark = secrets.token_bytes(_MARK)
    sender.run(_send, link, frame + mark)
    return mark


def get_through(sender: Namespace, frames: list[bytes], honest: bytes, ears: list[Ear]) -> list[bool]:
    """Send frames, then one that is known to get through; tell of each whether anybody heard it."""
    marks = [send(sender, frame) for frame in frames]
    last = send(sender, honest)
    for ear in ears:
        ear.wait(last)
    return [any(ear.heard(mark) for ear in ears) for mark in marks]


def _raw(link: str) -> socket.socket:
    ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    ear.bind((link, _ALL))
    ear.setblocking(False)  # noqa: FBT003
    return ear


def _send(link: str, frame: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as mouth:
        mouth.bind((link, 0))
        mouth.send(frame)
