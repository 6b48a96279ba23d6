# SPDX-License-Identifier: Apache-2.0
"""How an agent of Mesos is asked, and what is said of answers that are late, odd or none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from dni_driver.core.errors import Refused, SettingsError, Unavailable
from dni_driver.core.mesos.address import MesosAddress, read_mesos_address
from dni_driver.registry import Access, open_registry
from dni_driver.registry.mesos import MesosRegistry
from dni_driver.registry.mesos_agent import LARGEST_ANSWER, MesosAgent
from tests.contract.mesos_host import mesos, registry
from tests.mesos_agent import ENDPOINT, FakeMesosAgent

__all__ = ["mesos", "registry"]


def test_it_is_asked_for_json_and_shown_a_token_where_one_is_configured(
    mesos: FakeMesosAgent, tmp_path: Path
) -> None:
    open_registry(mesos.url, tmp_path).overlays()
    token = tmp_path / "token"
    token.write_text("abc.def\n")
    with_token = open_registry(mesos.url, tmp_path, Access(token_file=token))
    with_token.overlays()
    token.write_text("renewed")
    with_token.overlays()
    assert [path for path, _ in mesos.asked] == [ENDPOINT] * 3
    assert {headers["Accept"] for _, headers in mesos.asked} == {"application/json"}
    assert [headers.get("Authorization") for _, headers in mesos.asked] == [None, "token=abc.def", "token=renewed"]


@pytest.mark.parametrize("content", [None, "", "two\nlines", "é"])
def test_a_token_that_cannot_be_used_is_named(mesos: FakeMesosAgent, tmp_path: Path, content: str | None) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content, encoding="latin-1")
    with pytest.raises(SettingsError, match=f'registry.token_file = "{token}": (cannot be read|must hold one line)'):
        open_registry(mesos.url, tmp_path, Access(token_file=token)).overlays()
    assert mesos.asked == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "answers what no overlay module does"),
        (b"<html>", "answers what no overlay module does"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `ip`"),
        (b'{"ip": 7}', "Expected `str`"),
        (b'{"ip": "\xff"}', "answers what no overlay module does"),
        (b'{"ip": "10.0.0.2", "overlays": [{}]}', "missing required field"),
        (b'{"ip": "10.0.0.2", "overlays": {}}', "Expected `array`"),
        (b'{"ip": "web", "overlays": []}', "calls itself 'web', which is no IPv4 address"),
        (b"[" * 100000, "answers what no overlay module does"),
        (b" " * (LARGEST_ANSWER + 1), "answers more than 4 MiB"),
    ],
)
def test_an_answer_that_is_none_is_explained_in_a_line(
    registry: MesosRegistry, mesos: FakeMesosAgent, answer: bytes, words: str
) -> None:
    mesos.answer = answer
    with pytest.raises(Unavailable) as caught:
        registry.overlays()
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "has no overlay module: there is no /overlay-agent/overlay"),
        (401, r"does not let dni look \(status 401\): registry.token_file names the file"),
        (403, "does not let dni look"),
        (503, "is not ready yet"),
        (500, "answers with status 500"),
        (307, "answers with status 307"),
    ],
)
def test_a_status_is_explained(registry: MesosRegistry, mesos: FakeMesosAgent, status: int, words: str) -> None:
    mesos.status = status
    with pytest.raises(Unavailable, match=rf"the Mesos agent at http://127\.0\.0\.1:\d+ {words}"):
        registry.leases()


def test_a_name_that_does_not_resolve_is_explained() -> None:
    with pytest.raises(Unavailable, match=r"the Mesos agent at http://no\.such\.host\.invalid:5051 does not answer"):
        MesosRegistry(MesosAgent(read_mesos_address("mesos://no.such.host.invalid"))).overlays()


def _dripping(ended: threading.Event) -> Any:
    def speak(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not ended.wait(0.02):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return

    return speak


def _dripping_headers(ended: threading.Event) -> Any:
    """Begin with a header that never ends."""

    def speak(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
        while not ended.wait(0.02):
            try:
                handler.wfile.write(b"x")
            except OSError:
                return

    return speak


def _silent(ended: threading.Event) -> Any:
    def speak(_: BaseHTTPRequestHandler) -> None:
        ended.wait(60)

    return speak


def _greet(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9\r\n")


@pytest.mark.parametrize("spoken", [_dripping, _dripping_headers, _silent])
def test_an_agent_that_takes_too_long_is_given_up_however_it_does_that(
    mesos: FakeMesosAgent, spoken: Callable[[threading.Event], Any]
) -> None:
    ended = threading.Event()
    silence = threading.Timer(20, ended.set)
    silence.start()
    mesos.speak = spoken(ended)
    asked = MesosAgent(read_mesos_address(mesos.url), patience=0.3)
    with pytest.raises(Unavailable, match=r"took longer than 0\.3 s to answer"):
        asked.ask()
    assert not ended.is_set(), "it was waited for until it had done"
    silence.cancel()
    ended.set()


def test_what_does_not_speak_http_is_explained(mesos: FakeMesosAgent) -> None:
    mesos.speak = _greet
    with pytest.raises(Unavailable, match="does not speak HTTP"):
        MesosAgent(read_mesos_address(mesos.url)).ask()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mesos://10.0.0.1:5051", MesosAddress("10.0.0.1", 5051)),
        ("mesos://10.0.0.1", MesosAddress("10.0.0.1", 5051)),
        ("mesos://leader.mesos:5050/", MesosAddress("leader.mesos", 5050)),
        ("mesos://[fd00::1]:5051", MesosAddress("fd00::1", 5051)),
    ],
)
def test_a_mesos_agent_is_named_by_host_and_port(url: str, address: MesosAddress) -> None:
    assert read_mesos_address(url) == address
    assert read_mesos_address(str(address)) == address


@pytest.mark.parametrize(
    "url",
    [
        *("mesos://", "mesos://a:0", "mesos://a:65536", "mesos://a/b", "mesos://a b", "http://a"),
        *("mesos://.", "mesos://leader..mesos", f"mesos://{'a' * 64}:5051", "mesos://[10.0.0.1]", "mesos://[:::]"),
    ],
)
def test_what_names_no_mesos_agent_is_refused(url: str) -> None:
    with pytest.raises(Refused, match=r"names no Mesos agent: write it like mesos://10\.0\.0\.1:5051"):
        read_mesos_address(url)
    with pytest.raises(SettingsError, match=r"registry\.url"):
        open_registry(url, Path("/nonexistent"))
