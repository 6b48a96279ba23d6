# SPDX-License-Identifier: Apache-2.0
"""A name server over UDP and TCP that knows one name, and says of all others that they are none.

usage: name_server.py LISTEN NAME ADDRESS
"""

from __future__ import annotations

import ipaddress
import socketserver
import sys
import threading

PORT = 53
_HEADER = 12
_KNOWN, _UNKNOWN = b"\x85\x80", b"\x85\x83"
"""An answer with authority and recursion: there is such a name; there is none."""

_IPV4 = b"\x00\x01"
_RECORD = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04"
"""Of the name in the question: an IPv4 address for five seconds, in four bytes."""


def answer(query: bytes, name: str, address: str) -> bytes:
    """Answer a query for one name."""
    labels, at = [], _HEADER
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length])
        at += 1 + length
    question = query[_HEADER : at + 5]
    is_known = b".".join(labels).decode().lower() == name
    record = _RECORD + ipaddress.IPv4Address(address).packed if is_known and query[at + 1 : at + 3] == _IPV4 else b""
    counts = bytes((0, 1, 0, len(record) > 0, 0, 0, 0, 0))
    return query[:2] + (_KNOWN if is_known else _UNKNOWN) + counts + question + record


class _Datagram(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        query, back = self.request
        back.sendto(answer(query, *sys.argv[2:]), self.client_address)


class _Stream(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        length = int.from_bytes(self.rfile.read(2), "big")
        told = answer(self.rfile.read(length), *sys.argv[2:])
        self.wfile.write(len(told).to_bytes(2, "big") + told)


class _Streams(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with (
        socketserver.ThreadingUDPServer((sys.argv[1], PORT), _Datagram) as datagrams,
        _Streams((sys.argv[1], PORT), _Stream) as streams,
    ):
        threading.Thread(target=datagrams.serve_forever, daemon=True).start()
        streams.serve_forever()
