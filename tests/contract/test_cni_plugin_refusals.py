# SPDX-License-Identifier: Apache-2.0
"""What `dni-cni` and the agent it asks do not take is told in the words and codes of CNI."""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dni_driver.mesos import cni_agent
from dni_driver.mesos.cni_errors import CniError
from tests.contract.cni_runtime import VERSIONS, Runtime, host, mesos, path, runtime, serving
from tests.unit.cni_host import Host

__all__ = ["host", "mesos", "path", "runtime"]


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_cannot_be_decoded(runtime: Runtime, command: str, text: bytes) -> None:
    status, error = runtime.call(command, text)
    assert (status, error["code"]) == (1, 6)


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
@pytest.mark.parametrize("version", ["0.5.0", "2.0.0", "1", 1, ["1.0.0"], {"a": 1}, 0, False, [], {}])
def test_a_version_that_is_not_known_is_incompatible(runtime: Runtime, command: str, version: object) -> None:
    status, error = runtime.call(command, cniVersion=version)
    assert (status, error["code"], error["cniVersion"]) == (1, 1, "1.0.0")
    assert error["details"] == f"dni-cni speaks {', '.join(VERSIONS)}"


@pytest.mark.parametrize("version", VERSIONS[:4])
def test_check_is_incompatible_with_versions_before_it(runtime: Runtime, version: str) -> None:
    status, error = runtime.call("CHECK", cniVersion=version, prevResult={})
    assert (status, error["code"]) == (1, 1)
    assert error["msg"] == f"CHECK came with cniVersion 0.4.0, and this is {version}"


@pytest.mark.parametrize(
    ("command", "environment", "text"),
    [
        ("", {}, "CNI_COMMAND is '', not one of ADD, DEL, CHECK, VERSION"),
        ("add", {}, "CNI_COMMAND is 'add'"),
        ("GC", {}, "CNI_COMMAND is 'GC'"),
        ("ADD", {"CNI_CONTAINERID": None}, "CNI_CONTAINERID is not set"),
        ("ADD", {"CNI_NETNS": ""}, "CNI_NETNS is not set"),
        ("ADD", {"CNI_IFNAME": None}, "CNI_IFNAME is not set"),
        ("DEL", {"CNI_CONTAINERID": ""}, "CNI_CONTAINERID is not set"),
        ("DEL", {"CNI_IFNAME": None}, "CNI_IFNAME is not set"),
        ("ADD", {"CNI_IFNAME": "sixteen-letters-"}, "cannot be the name of a link"),
        ("ADD", {"CNI_IFNAME": "a/b"}, "cannot be the name of a link"),
        ("ADD", {"CNI_IFNAME": ".."}, "cannot be the name of a link"),
        ("ADD", {"CNI_IFNAME": "a b"}, "cannot be the name of a link"),
        ("ADD", {"CNI_CONTAINERID": "a\nb"}, "CNI_CONTAINERID has characters that cannot be printed"),
        (
            "ADD",
            {"CNI_CONTAINERID": "../.."},
            "CNI_CONTAINERID '../..' is no id of a container: it begins with a letter",
        ),
        ("ADD", {"CNI_CONTAINERID": "-c1"}, "is no id of a container"),
        ("ADD", {"CNI_CONTAINERID": "c1/c2"}, "is no id of a container"),
        ("DEL", {"CNI_CONTAINERID": "c 1"}, "is no id of a container"),
        ("CHECK", {"CNI_CONTAINERID": "\u00e91"}, "is no id of a container"),
        ("ADD", {"CNI_NETNS": "/run/\udc80"}, "CNI_NETNS has characters that cannot be printed"),
        ("ADD", {"CNI_ARGS": "IP=nine"}, "CNI_ARGS asks for IP='nine', which is not an IP address"),
        ("ADD", {"CNI_ARGS": "IP=9.0.0.5/25"}, "which is not an IP address"),
        ("ADD", {"CNI_ARGS": "IP=\udc80"}, "which is not an IP address"),
        ("ADD", {"CNI_ARGS": "IP=9.0.0.5;IP=9.0.0.6"}, "9.0.0.5 and 9.0.0.6 are asked for: a container has one of a"),
        ("ADD", {"CNI_ARGS": "IgnoreUnknown=1;IP"}, "CNI_ARGS has 'IP' in it, which is no KEY=VALUE"),
    ],
)
def test_variables_that_are_missing_or_cannot_be_are_told(
    runtime: Runtime, command: str, environment: dict[str, str | None], text: str
) -> None:
    status, error = runtime.call(command, cniVersion="1.0.0", **environment)
    assert (status, error["code"]) == (1, 4)
    assert text in error["msg"]


@pytest.mark.parametrize("key", ["ipam", "bridge", "delegate", "ipMasq", "isGateway"])
def test_what_other_plugins_are_told_is_not_supported(runtime: Runtime, key: str) -> None:
    status, error = runtime.call("ADD", **{key: {}})
    assert (status, error["code"], error["details"]) == (1, 2, f"unsupported field: {key}")


WRONG_INFOS: list[dict[str, Any]] = [
    {"ip_addresses": 0},
    {"ip_addresses": {}},
    {"ip_addresses": [{"ip_address": 9}]},
    {"ip_addresses": [{"ip_address": ""}]},
    {"ip_addresses": [{"ip_address": "nine"}]},
    {"ip_addresses": [{"ip_address": "9.0.0.2/25"}]},
    {"ip_addresses": [{"ip_address": "\ud800"}]},
    {"ip_addresses": [{"ip_address": "9.0.0.5"}, {"ip_address": "9.0.0.6"}]},
    {"ip_addresses": [{"protocol": 7}]},
    {"ip_addresses": [{"protocol": ["IPv4"]}]},
    {"ip_addresses": [{"protocol": "IPX", "ip_address": "9.0.0.5"}]},
    {"ip_addresses": [{"protocol": "IPv6", "ip_address": "9.0.0.5"}]},
    {"ip_addresses": [{"protocol": "IPv4", "ip_address": "fd01::5"}]},
    {"groups": "web"},
    {"groups": [7]},
    {"groups": [""]},
    {"labels": []},
    {"labels": {"labels": {}}},
    {"labels": {"labels": [{"value": "1mbit"}]}},
    {"labels": {"labels": [{"key": "dni.egress"}]}},
    {"labels": {"labels": [{"key": "dni.egress", "value": 7}]}},
    {"labels": {"labels": [{"key": "dni.egress", "value": "1mbit"}, {"key": "dni.egress", "value": "2mbit"}]}},
]
"""What Mesos' NetworkInfo may not say."""


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": None},
        {"name": 7},
        {"name": ""},
        {"name": "\ud800"},
        {"name": "a\u0000b"},
        {"overlay": []},
        {"overlay": "\udfff"},
        {"socket": "/run/\ud800"},
        {"socket": 7},
        {"args": 7},
        {"args": {"org.apache.mesos": []}},
        {"args": {"org.apache.mesos": {"network_info": "dcos"}}},
        {"args": {"org.apache.mesos": {"network_info": {"ip_addresses": "9.0.0.2"}}}},
        {"args": {"org.apache.mesos": {"network_info": {"ip_addresses": ["9.0.0.2"]}}}},
        *({"args": {"org.apache.mesos": {"network_info": info}}} for info in WRONG_INFOS),
    ],
)
def test_a_configuration_that_says_something_else_than_it_may_is_invalid(
    runtime: Runtime, wrong: dict[str, Any]
) -> None:
    status, error = runtime.call("ADD", **wrong)
    assert (status, error["code"]) == (1, 7)


@pytest.mark.parametrize(
    "previous",
    [
        7,
        [],
        "9.0.0.2/25",
        {"ips": 7},
        {"ips": "9.0.0.2/25"},
        {"ips": {}},
        {"ips": ["9.0.0.2/25"]},
        {"ips": [{}]},
        {"ips": [{"address": {}}]},
        {"ips": [{"address": 9}]},
        {"ips": [{"address": "nine"}]},
        {"ips": [{"address": "\ud800"}]},
    ],
)
def test_a_previous_result_that_is_none_is_invalid(mesos: Runtime, previous: object) -> None:
    mesos.call("ADD", cniVersion="1.0.0")
    status, error = mesos.call("CHECK", cniVersion="1.0.0", prevResult=previous)
    assert (status, error["code"]) == (1, 7)
    assert "prevResult" in error["msg"]


@pytest.mark.parametrize("previous", [{}, {"ips": None}, {"ips": [{"address": "9.0.0.2/25"}]}])
def test_check_of_a_container_nobody_knows_is_code_3(mesos: Runtime, previous: dict[str, Any]) -> None:
    mesos.call("ADD", cniVersion="1.0.0")
    for other in ({"CNI_CONTAINERID": "c2"}, {"CNI_IFNAME": "eth1"}):
        status, error = mesos.call("CHECK", cniVersion="1.0.0", prevResult=previous, **other)
        assert (status, error["code"]) == (1, 3)
        assert re.fullmatch(r"container c[12] has no eth[01] on overlay 'dcos'", error["msg"])
    mesos.call("DEL", cniVersion="1.0.0")
    _, error = mesos.call("CHECK", cniVersion="1.0.0", prevResult=previous)
    assert error["code"] == 3


def test_check_without_what_add_answered_is_invalid(runtime: Runtime) -> None:
    status, error = runtime.call("CHECK", cniVersion="1.0.0")
    assert (status, error["code"]) == (1, 7)
    assert error["msg"] == "'prevResult' in the network configuration must be an object, not missing"


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        ({"overlay": "nowhere"}, 7, "there is no overlay 'nowhere'"),
        ({"CNI_ARGS": "IP=9.0.0.200"}, 100, "address 9.0.0.200 lies outside the Mesos half"),
        ({"CNI_ARGS": "IP=fd01::5"}, 100, "overlay 'dcos' has no IPv6: fd01::5 cannot be had on it"),
    ],
)
def test_what_dni_refuses_is_told_with_a_code(mesos: Runtime, more: dict[str, str], code: int, text: str) -> None:
    status, error = mesos.call("ADD", **more)
    assert (status, error["code"]) == (1, code)
    assert text in error["msg"]


def test_where_host_local_hands_out_the_half_it_is_told(path: Path, runtime: Runtime) -> None:
    host = Host(path, "host-local")
    with serving(host, path / "dni.sock"):
        status, error = runtime.call("ADD")
        assert (status, error["code"]) == (1, 100)
        assert 'set ipam = "dni" in [cni]' in error["msg"]
        assert runtime.call("DEL") == (0, None)
    host.store.close()


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_without_an_agent_it_says_to_try_again(runtime: Runtime, path: Path, command: str) -> None:
    status, error = runtime.call(command, cniVersion="1.0.0", prevResult={})
    assert (status, error["code"]) == (1, 11)
    assert error["msg"].startswith(f"the dni agent does not answer at {path / 'dni.sock'}: start it with")


def answering(path: Path, pieces: list[bytes], *, then_close: bool = True) -> threading.Thread:
    """Listen once; send some pieces, a moment apart, whatever was asked."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path / "dni.sock"))
    listener.listen()

    def answer() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(1 << 16)
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.05)
            if not then_close:
                connection.settimeout(10)
                connection.recv(1)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.0 200 OK\r\n"], [b"HTTP/1.0 200 OK\r\n\r\n", b"{"]])
def test_an_agent_that_never_ends_its_answer_is_given_up(
    runtime: Runtime, path: Path, pieces: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cni_agent.ask, "__defaults__", (None, 0.3))
    agent = answering(path, pieces, then_close=False)
    status, error = runtime.call("ADD")
    agent.join()
    assert (status, error["code"]) == (1, 11)
    assert "timed out" in error["details"]


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([], 11),
        ([b"SSH-2.0\r\n\r\n"], 102),
        ([b"HTTP/1.0 OK\r\n\r\n{}"], 102),
        ([b"HTTP/1.0\r\n\r\n"], 102),
        ([b"HTTP/1.0 200 OK\r\n\r\n<html>"], 102),
        ([b"HTTP/1.0 200 OK\r\n\r\n", b"{}"], 102),
        ([b"HTTP/1.0 500 X\r\n\r\n[]"], 102),
        ([b"HTTP/1.0 503 X\r\n\r\n", b'{"error": "later"}'], 11),
    ],
)
def test_what_answers_otherwise_than_an_agent_is_told(
    runtime: Runtime, path: Path, pieces: list[bytes], code: int
) -> None:
    agent = answering(path, pieces)
    status, error = runtime.call("ADD")
    agent.join()
    assert (status, error["code"]) == (1, code)
    assert error["msg"]


@pytest.mark.parametrize(
    ("method", "target", "text"),
    [
        ("GET", "/v1/cni/endpoints", "query parameter 'overlay' is missing"),
        ("DELETE", "/v1/cni/endpoints?overlay=dcos&container=&ifname=eth0", "query parameter 'container' is missing"),
        ("DELETE", "/v1/cni/endpoints?id=7", "query parameter 'id' is not known: use overlay, container, ifname"),
        ("GET", "/v1/cni/configurations/dcos?ipam=x", "query parameter ipam='x' is none of host-local, dni"),
        ("GET", "/v1/cni/configurations/dcos?shape=x", "query parameter shape='x' is none of mesos, plain, list"),
        ("POST", "/v1/cni/endpoints", "missing required field `overlay`"),
    ],
)
@pytest.mark.usefixtures("host")
def test_the_agent_tells_whoever_asks_it_otherwise_what_is_missing(
    path: Path, method: str, target: str, text: str
) -> None:
    with pytest.raises(CniError, match=re.escape(text)) as refused:
        cni_agent.ask(str(path / "dni.sock"), method, target)
    assert refused.value.code == 100


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        ({"sandbox": "/run/netns/\0"}, r"sandbox '/run/netns/\x00' must be a text that can be printed"),
        ({"sandbox": "netns/c1"}, "sandbox 'netns/c1' is not an absolute path"),
        ({"sandbox": ""}, "sandbox '' must be a text"),
        ({"container": "c\n1"}, r"container 'c\n1' must be a text that can be printed"),
        ({"ifname": ""}, "ifname '' must be a text"),
    ],
)
def test_the_agent_records_no_place_that_the_collector_would_stumble_over(
    path: Path, host: Host, odd: dict[str, str], text: str
) -> None:
    wish = {"overlay": "dcos", "container": "c1", "ifname": "eth0", "sandbox": "/run/netns/c1", **odd}
    with pytest.raises(CniError, match=re.escape(text)) as refused:
        cni_agent.ask(str(path / "dni.sock"), "POST", "/v1/cni/endpoints", wish)
    assert refused.value.code == 100
    assert host.held() == {}
