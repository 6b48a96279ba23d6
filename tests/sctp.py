# SPDX-License-Identifier: Apache-2.0
"""The first two packets of SCTP, by hand: a kernel that follows its connections need not have sockets of it.

python -m tests.sctp answer PORT            wait for an INIT to this port, answer it, and print who sent it
python -m tests.sctp ask ADDRESS PORT       send an INIT, and print who answers it
"""

from __future__ import annotations

import socket
import struct
import sys

_PATIENCE = 10.0
_IP_HEADER = 20
_INIT, _INIT_ACK = 1, 2
_OWN_PORT = 4000


def raw() -> socket.socket:
    """Open a socket that is given every packet of SCTP over IPv4."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
    opened.settimeout(_PATIENCE)
    return opened


def init(source: int, target: int) -> bytes:
    """Write what asks for a connection from one port to another, as RFC 9260 has it."""
    return _packet(source, target, 0, _INIT, b"")


def init_ack(source: int, target: int) -> bytes:
    """Write what answers that, with its cookie."""
    return _packet(source, target, 1, _INIT_ACK, struct.pack(">HHI", 7, 8, 0))


def received(socket_: socket.socket) -> tuple[str, int, int]:
    """Wait for a packet; answer who sent it, and from which port to which."""
    packet, (sender, _) = socket_.recvfrom(256)
    source, target = struct.unpack_from(">HH", packet[_IP_HEADER:])
    return sender, source, target


def _packet(source: int, target: int, tag: int, kind: int, cookie: bytes) -> bytes:
    chunk = struct.pack(">BBHIIHHI", kind, 0, 20 + len(cookie), 1, 65536, 1, 1, 1) + cookie
    head = struct.pack(">HHI", source, target, tag)
    return head + struct.pack("<I", _crc32c(head + bytes(4) + chunk)) + chunk


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _answer(port: int) -> str:
    with raw() as server:
        _say("listening")
        while True:
            caller, theirs, asked = received(server)
            if asked == port:
                server.sendto(init_ack(port, theirs), (caller, 0))
                return f"{caller}:{theirs}"


def _ask(address: str, port: int) -> str:
    with raw() as client:
        client.sendto(init(_OWN_PORT, port), (address, 0))
        answerer, theirs, _ = received(client)
        return f"{answerer}:{theirs}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    _say(_answer(int(words[0])) if what == "answer" else _ask(words[0], int(words[1])))
