# SPDX-License-Identifier: Apache-2.0
"""A name server for which every name has one IPv4 address. usage: names.py LISTEN ANSWER."""

from __future__ import annotations

import socket
import sys

_HEADER = 12
_IPV4 = b"\x00\x01\x00\x01"
_ANSWERED = b"\x81\x80"
_THE_SAME_NAME = b"\xc0\x0c"
_SECONDS = (60).to_bytes(4, "big")


def _answer(query: bytes, address: bytes) -> bytes:
    end = query.index(0, _HEADER) + 5
    question = query[_HEADER:end]
    if not question.endswith(_IPV4):
        return query[:2] + _ANSWERED + b"\x00\x01\x00\x00\x00\x00\x00\x00" + question
    record = _THE_SAME_NAME + _IPV4 + _SECONDS + b"\x00\x04" + address
    return query[:2] + _ANSWERED + b"\x00\x01\x00\x01\x00\x00\x00\x00" + question + record


def _serve(listen: str, answer: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((listen, 53))
        while True:
            query, asker = server.recvfrom(4096)
            server.sendto(_answer(query, socket.inet_aton(answer)), asker)


_serve(sys.argv[1], sys.argv[2])
