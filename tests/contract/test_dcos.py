# SPDX-License-Identifier: Apache-2.0
"""DC/OS's endpoints over the real socket: forms, codes and texts."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path

import pytest

from dni_driver.console.app import create_app, create_reading_app
from dni_driver.core.errors import InUse, Unavailable
from dni_driver.core.mesos import dcos
from dni_driver.mesos import dcos_protobuf
from tests.contract.operations import DCOS_AGENT, _Operations, operations, path

__all__ = ["operations", "path"]

AGENT = "/overlay-agent/overlay"
STATE = "/overlay-master/state"
DELETE = "/overlay-master/agents/delete"
TEXT = "text/plain; charset=utf-8"
WANTED = "Client needs to support either application/json or application/x-protobuf"


def ask(
    path: Path, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """Ask as a client of DC/OS does; answer status, headers and text."""
    status, received, content = ask_for_bytes(path, method, target, body, headers)
    return status, received, content.decode()


def ask_for_bytes(
    path: Path, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Ask likewise; answer status, headers and bytes."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(10)
    connection.sock.connect(str(path))
    try:
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(("target", "value"), [(AGENT, DCOS_AGENT), (STATE, dcos.Cluster(agents=[DCOS_AGENT]))])
@pytest.mark.usefixtures("operations")
def test_both_are_json_with_their_keys_in_order(path: Path, target: str, value: dcos.Agent | dcos.Cluster) -> None:
    status, headers, text = ask(path, "GET", target)
    assert (status, headers["Content-Type"], text) == (200, "application/json", dcos.write(value).decode())
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "application/json",
        "application/*",
        "text/html, application/json;q=0.1",
        "application/json, */*;q=0",
    ],
)
@pytest.mark.usefixtures("operations")
def test_who_takes_json_gets_it(path: Path, accept: str | None) -> None:
    assert ask(path, "GET", AGENT, headers={"Accept": accept} if accept else {})[0] == 200


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image/*", "nonsense"])
def test_who_takes_neither_json_nor_protobuf_is_told_what_dcos_tells_them(
    path: Path, operations: _Operations, accept: str
) -> None:
    status, headers, text = ask(path, "GET", AGENT, headers={"Accept": accept})
    assert (status, headers["Content-Type"], text) == (415, TEXT, WANTED)
    assert operations.asked == []


@pytest.mark.parametrize(
    "accept", ["application/x-protobuf", "application/json;q=0, */*", "text/html, application/x-protobuf"]
)
@pytest.mark.usefixtures("operations")
def test_who_takes_protobuf_and_no_json_gets_that(path: Path, accept: str) -> None:
    status, headers, content = ask_for_bytes(path, "GET", AGENT, headers={"Accept": accept})
    assert (status, headers["Content-Type"]) == (200, "application/x-protobuf")
    assert content == dcos_protobuf.write(DCOS_AGENT)
    with pytest.raises(UnicodeDecodeError):
        content.decode()


@pytest.mark.parametrize("accept", ["text/html", "application/x-protobuf", "nonsense"])
@pytest.mark.parametrize(("method", "target"), [("GET", STATE), ("POST", DELETE)])
@pytest.mark.usefixtures("operations")
def test_the_masters_endpoints_are_json_for_everybody_as_in_dcos(
    path: Path, accept: str, method: str, target: str
) -> None:
    body = b'{"agents": []}' if method == "POST" else None
    status, headers, _ = ask(path, method, target, body, headers={"Accept": accept})
    assert (status, headers["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize("target", [AGENT, STATE])
@pytest.mark.usefixtures("operations")
def test_with_jsonp_it_is_a_call_of_the_function(path: Path, target: str) -> None:
    _, _, plain = ask(path, "GET", target)
    status, headers, text = ask(path, "GET", f"{target}?jsonp=jQuery_1.cb$")
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/javascript")
    assert text == f"jQuery_1.cb$({plain});"


@pytest.mark.parametrize("name", ["alert(1)//", "", "1x", "a b", "é", "<script>", "x" * 200])
def test_what_is_no_function_is_refused(operations: _Operations, name: str) -> None:
    response = create_app(operations).test_client().get(AGENT, query_string={"jsonp": name})
    assert (response.status_code, response.content_type) == (400, TEXT)
    assert "is no name of a function" in response.text
    assert operations.asked == []


def test_dead_agents_are_deleted_and_the_state_is_the_answer(path: Path, operations: _Operations) -> None:
    body = json.dumps({"agents": ["10.0.0.1", "10.0.0.2"]}).encode()
    status, headers, text = ask(path, "POST", DELETE, body)
    assert (status, headers["Content-Type"], text) == (200, "application/json", "{}")
    assert operations.asked == [("purge", "10.0.0.1", "10.0.0.2")]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_deleting_in_another_way_than_by_post_is_405(path: Path, operations: _Operations, method: str) -> None:
    status, headers, text = ask(path, method, DELETE)
    assert (status, headers["Content-Type"], headers["Allow"]) == (405, TEXT, "POST")
    assert text == f"{method} is not possible at '{DELETE}'"
    assert operations.asked == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is not understood"),
        (b"{", "is not understood"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `agents`"),
        (b'{"agents": "10.0.0.1"}', "Expected `array`"),
        (b'{"agents": [1]}', "Expected `str`"),
        (b'{"agents": ["web"]}', "'web' is no agent IP: write it like 10.0.0.1"),
        (b'{"agents": ["10.0.0.1", "fe80::1%eth0"]}', "'fe80::1%eth0' is no agent IP"),
        (b'{"agents": ["10.0.0.1/32"]}', "is no agent IP"),
        (b'{"agents": ["\xff"]}', "is not understood"),
        (b'{"more": ' + b"[" * 30000, "is not understood"),
    ],
)
def test_a_body_that_names_no_agents_is_400_and_deletes_nothing(
    path: Path, operations: _Operations, body: bytes, words: str
) -> None:
    status, headers, text = ask(path, "POST", DELETE, body)
    assert (status, headers["Content-Type"]) == (400, TEXT)
    assert words in text
    assert len(text.splitlines()) == 1
    assert operations.asked == []


def test_a_body_without_end_is_413(path: Path, operations: _Operations) -> None:
    status, headers, _ = ask(path, "POST", DELETE, b" " * (1 << 17))
    assert (status, headers["Content-Type"]) == (413, TEXT)
    assert operations.asked == []


@pytest.mark.parametrize(
    ("error", "status"), [(Unavailable("ZooKeeper does not answer"), 503), (InUse("it is alive"), 409)]
)
@pytest.mark.parametrize(("method", "target"), [("GET", AGENT), ("GET", STATE), ("POST", DELETE)])
def test_an_error_is_plain_text_with_its_code(
    path: Path, operations: _Operations, error: Exception, status: int, method: str, target: str
) -> None:
    operations.error = error
    found = ask(path, method, target, b'{"agents": []}' if method == "POST" else None)
    assert (found[0], found[1]["Content-Type"], found[2]) == (status, TEXT, str(error))


def test_what_nobody_foresaw_shows_no_inner_parts(path: Path, operations: _Operations) -> None:
    operations.error = ZeroDivisionError("secret")
    status, headers, text = ask(path, "GET", AGENT)
    assert (status, headers["Content-Type"]) == (500, TEXT)
    assert text == "dni failed unexpectedly (ZeroDivisionError): the log of the agent says more"


def test_over_tcp_agents_are_looked_at_and_not_deleted() -> None:
    operations = _Operations()
    client = create_reading_app(operations).test_client()
    assert client.get(AGENT).status_code == 200
    response = client.post(DELETE, data=b'{"agents": ["10.0.0.1"]}')
    assert (response.status_code, response.content_type) == (403, TEXT)
    assert response.text == "over TCP nothing is changed: ask at the socket, as `dni` does"
    assert operations.asked == [("dcos agent",)]


@pytest.mark.usefixtures("operations")
def test_a_path_beside_them_is_404_in_text(path: Path) -> None:
    status, headers, text = ask(path, "GET", "/overlay-master/")
    assert (status, headers["Content-Type"], text) == (404, TEXT, "there is nothing at '/overlay-master/'")
