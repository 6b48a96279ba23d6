# SPDX-License-Identifier: Apache-2.0
"""HTTP as dockerd's client speaks it: the whole request at once, in one shape; the answer in one piece, then the end.

A request in any other shape is not understood here, and left to gunicorn: its reading of all that HTTP allows costs
as much as the rest of a call. What heads say is remembered: dockerd has a few for each method.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

LARGEST = 1 << 16
"""In bytes, of a request that is read at once."""

_LONGEST_HEAD = 1024
"""In bytes; those of dockerd have some 200."""
_HEADS = 256
"""How many are remembered."""

_HEAD = re.compile(rb"POST (/[A-Za-z.]{1,100}) HTTP/1\.1((?:\r\n[A-Za-z-]{1,40}:[ -~]{0,200}){0,8})")
_SIZE = re.compile("[0-9]{1,5}")
_OF_DOCKERD = frozenset({"HOST", "USER-AGENT", "CONTENT-LENGTH", "ACCEPT", "ACCEPT-ENCODING"})

_ALWAYS: WSGIEnvironment = {
    "REQUEST_METHOD": "POST",
    "SCRIPT_NAME": "",
    "QUERY_STRING": "",
    "SERVER_NAME": "dni",
    "SERVER_PORT": "",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


def understood(data: bytes) -> WSGIEnvironment | None:
    """Answer what a request says, as PEP 3333 has it; None where it is not whole, or not in dockerd's shape."""
    head, end, body = data.partition(b"\r\n\r\n")
    said = _said(head) if end and len(head) <= _LONGEST_HEAD else None
    if said is None or len(body) != int(said["CONTENT_LENGTH"]):
        return None
    return {**said, "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr}


@lru_cache(_HEADS)
def _said(head: bytes) -> Mapping[str, Any] | None:
    """Answer what the head of a request says; None where it is not in dockerd's shape."""
    matched = _HEAD.fullmatch(head)
    if matched is None:
        return None
    lines = [line.partition(":") for line in matched[2].decode("ascii").split("\r\n")[1:]]
    headers = {name.upper(): value.strip() for name, _, value in lines}
    size = headers.pop("CONTENT-LENGTH", "")
    if len(headers) != len(lines) - 1 or not headers.keys() <= _OF_DOCKERD or not _SIZE.fullmatch(size):
        return None
    return {
        **_ALWAYS,
        "PATH_INFO": matched[1].decode("ascii"),
        "CONTENT_LENGTH": size,
        **{f"HTTP_{name.replace('-', '_')}": value for name, value in headers.items()},
    }


def answered(app: WSGIApplication, environ: WSGIEnvironment) -> bytes:
    """Have an app answer; give the answer as it goes over the wire."""
    heads: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> None:
        heads.append((status, headers))

    answer = app(environ, start_response)  # type: ignore[arg-type]  # nobody writes by `write`
    try:
        body = b"".join(answer)
    finally:
        _close(answer)
    return _head(*heads[-1], len(body)) + body


def _head(status: str, headers: Iterable[tuple[str, str]], size: int) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers if name.lower() != "content-length"]
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, f"Content-Length: {size}", "Connection: close", "", "")).encode(
        "latin-1"
    )


def _close(answer: Iterable[bytes]) -> None:
    close = getattr(answer, "close", None)
    if close is not None:
        close()
