# SPDX-License-Identifier: Apache-2.0
"""Requests in dockerd's shape are understood at one glance; all others are left to gunicorn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

from dni_driver.plugin.exchange import answered, understood
from tests.contract.dockerd import HOST_OF_20_10, HOST_SINCE_23_0_7, request_bytes

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

JOIN = b'{"NetworkID":"n1"}\n'


def request(*lines: str, body: bytes = JOIN) -> bytes:
    """Write a request out of its lines."""
    return "\r\n".join((*lines, "", "")).encode() + body


POST, SIZE = "POST /NetworkDriver.Join HTTP/1.1", f"Content-Length: {len(JOIN)}"
WHOLE = request(POST, "Host: ", SIZE)


@pytest.mark.parametrize("host", [HOST_OF_20_10, HOST_SINCE_23_0_7])
@pytest.mark.parametrize("body", [b"", JOIN], ids=["without a body", "with a body"])
def test_what_dockerd_sends_is_understood(host: str, body: bytes) -> None:
    environ = understood(request_bytes("NetworkDriver.Join", body, host))
    assert environ is not None
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("POST", "/NetworkDriver.Join")
    assert (environ["CONTENT_LENGTH"], environ["HTTP_HOST"]) == (str(len(body)), host)
    assert environ["HTTP_USER_AGENT"] == "Go-http-client/1.1"
    assert environ["wsgi.input"].read() == body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        WHOLE[:1],
        WHOLE[:-1],
        WHOLE + b"x",
        WHOLE.replace(b"\r\n", b"\n"),
        WHOLE.replace(b"POST", b"GET"),
        WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        WHOLE.replace(b"/NetworkDriver.Join", b"/NetworkDriver.Join?x=1"),
        WHOLE.replace(b"/NetworkDriver.Join", b"http://dni/NetworkDriver.Join"),
        request(POST, "Host: dni"),
        request(POST, "Content-Length: 0", body=b"")[:-4],
        request(POST, "Content-Length: 0", body=b"")[:-2],
        request(POST, SIZE, f"Host: {'x' * 201}"),
        request(POST, SIZE, SIZE),
        request(POST, SIZE, "content-length: 0"),
        request(POST, "Content-Length: +19"),
        request(POST, "Content-Length: 1_9"),
        request(POST, "Content-Length : 19"),
        request(POST, "Content-Length: 1", " 9"),
        request(POST, SIZE, "Transfer-Encoding: chunked"),
        request(POST, SIZE, "Expect: 100-continue"),
        request(POST, SIZE, "Connection: keep-alive"),
        request(POST, SIZE, "Accept: \x00"),
        request(POST, SIZE, "Accept: é"),
        request(POST, SIZE, "Host: a", "Host: b"),
        request(POST, SIZE, *(f"Accept-{letter}: x" for letter in "abcdefgh")),
    ],
)
def test_everything_else_is_left_to_gunicorn(data: bytes) -> None:
    assert understood(WHOLE) is not None
    assert understood(data) is None


def test_the_same_head_is_of_another_request_each_time() -> None:
    first, second = (understood(request(POST, SIZE, body=body)) for body in (JOIN, JOIN[::-1]))
    assert first is not None
    first["HTTP_HOST"] = "changed"
    assert second is not None
    assert (first["wsgi.input"].read(), second["wsgi.input"].read()) == (JOIN, JOIN[::-1])
    assert "HTTP_HOST" not in (understood(request(POST, SIZE)) or {"HTTP_HOST": ""})


def test_a_head_that_was_not_understood_is_not_the_next_time() -> None:
    assert [understood(request(POST, SIZE, SIZE)) for _ in range(2)] == [None, None]


def test_a_long_head_is_left_to_gunicorn_and_not_remembered() -> None:
    lines = [f"{name}: {'x' * 199}" for name in ("Host", "User-Agent", "Accept", "Accept-Encoding")]
    assert understood(request(POST, SIZE, *lines)) is not None
    assert understood(request(POST, f"Content-Length: {len(JOIN):>199}", *lines)) is None


class Answer:
    """An answer that has something to let go of."""

    def __init__(self, *parts: bytes) -> None:
        """Hold it."""
        self.parts = parts
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        """Answer its parts."""
        return iter(self.parts)

    def close(self) -> None:
        """Let go."""
        self.closed = True


def test_an_answer_is_one_piece_of_known_length_and_the_last() -> None:
    answer = Answer(b'{"Err":', b'"no"}')

    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("500 Internal Server Error", [("Content-Type", "text/plain"), ("Content-Length", "99")])
        return answer

    assert answered(app, {}) == (
        b"HTTP/1.1 500 Internal Server Error\r\n"
        b"Content-Type: text/plain\r\n"
        b"Content-Length: 12\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b'{"Err":"no"}'
    )
    assert answer.closed
