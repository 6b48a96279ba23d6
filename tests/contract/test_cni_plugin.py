# SPDX-License-Identifier: Apache-2.0
"""`dni-cni` as a CNI runtime calls it: by variables, with a configuration on standard input."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dni_driver.console.app import create_app
from dni_driver.console.operations import Operations
from dni_driver.console.server import Server
from dni_driver.core.options.bandwidth import Limits
from dni_driver.core.reports import address_reports
from dni_driver.mesos import cni_agent
from dni_driver.mesos.cni_errors import CniError
from dni_driver.mesos.cni_plugin import respond
from dni_driver.store import room
from tests.scratch import fast_directory
from tests.unit.cni_host import Host

VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"]
PROGRAM = (sys.executable, "-c", "from dni_driver.mesos.cni_plugin import main; main()")

ADDED: dict[str, Any] = {
    "overlay": "dcos",
    "address": "9.0.0.2/25",
    "routes": [{"dst": "0.0.0.0/0", "gw": "9.0.0.1"}, {"dst": "9.0.0.0/8", "gw": "9.0.0.1"}],
}


@pytest.fixture
def path() -> Iterator[Path]:
    with fast_directory() as directory:
        yield Path(directory)


@pytest.fixture
def host(path: Path) -> Iterator[Host]:
    """Give a host whose agent listens, as it does where dni hands out the Mesos half."""
    made = Host(path)
    with serving(made, path / "dni.sock"):
        yield made
    made.store.close()


@contextmanager
def serving(host: Host, socket_path: Path) -> Iterator[None]:
    server = Server(create_app(Mock(spec=Operations), cni=host.cni), socket_path)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        thread.join()


class Runtime:
    """Calls the plugin as runtimes do, in this process."""

    def __init__(self, path: Path) -> None:
        """Take where the agent's socket is."""
        self.configuration: dict[str, Any] = {"name": "dcos", "type": "dni-cni", "socket": str(path / "dni.sock")}
        self.environment = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/c1", "CNI_IFNAME": "eth0"}

    def call(self, command: str, text: bytes | None = None, /, **more: Any) -> tuple[int, Any]:
        """Call; `more` goes into the configuration, or the environment where it is upper case; None takes away."""
        environment = {**self.environment, "CNI_COMMAND": command}
        configuration = dict(self.configuration)
        for name, value in more.items():
            place: dict[str, Any] = environment if name.isupper() else configuration
            place[name] = value
            if value is None:
                del place[name]
        return respond(environment, json.dumps(configuration).encode() if text is None else text)


@pytest.fixture
def runtime(path: Path) -> Runtime:
    return Runtime(path)


@pytest.fixture
def mesos(host: Host, runtime: Runtime) -> Runtime:
    """Give a runtime on a host with an agent."""
    assert host.held() == {}
    return runtime


@pytest.mark.parametrize("version", VERSIONS[2:])
def test_add_answers_in_the_words_of_each_version(mesos: Runtime, host: Host, version: str) -> None:
    status, answer = mesos.call("ADD", cniVersion=version)
    (link,) = host.kernel.links
    family = {} if version == "1.0.0" else {"version": "4"}
    assert status == 0
    assert answer == {
        "cniVersion": version,
        "interfaces": [
            {"name": "m-dcos"},
            {"name": link},
            {"name": "eth0", "mac": "02:42:09:00:00:02", "sandbox": "/run/netns/c1"},
        ],
        "ips": [{**family, "interface": 2, "address": "9.0.0.2/25", "gateway": "9.0.0.1"}],
        "routes": ADDED["routes"],
        "dns": {},
    }


@pytest.mark.parametrize("version", [None, "", *VERSIONS[:2]])
def test_mesos_which_sends_no_version_gets_what_it_reads(mesos: Runtime, version: str | None) -> None:
    """Mesos' spec.proto has `ip4` and `ip6`, as the first two versions have."""
    status, answer = mesos.call("ADD", **({} if version is None else {"cniVersion": version}))
    assert status == 0
    assert answer == {
        "cniVersion": version or "0.1.0",
        "ip4": {"ip": "9.0.0.2/25", "gateway": "9.0.0.1", "routes": ADDED["routes"]},
        "dns": {},
    }


def test_add_repeated_gives_the_same_answer_and_one_address(mesos: Runtime, host: Host) -> None:
    assert mesos.call("ADD") == mesos.call("ADD")
    assert host.held() == {"9.0.0.2": "c1"}


@pytest.mark.parametrize("version", VERSIONS)
def test_del_says_nothing_and_can_be_repeated(mesos: Runtime, host: Host, version: str) -> None:
    mesos.call("ADD", cniVersion=version)
    assert mesos.call("DEL", cniVersion=version) == (0, None)
    assert host.held() == {}
    assert mesos.call("DEL", cniVersion=version) == (0, None)
    assert mesos.call("DEL", cniVersion=version, CNI_NETNS=None) == (0, None)


@pytest.mark.parametrize("version", VERSIONS[4:])
def test_check_is_silent_as_long_as_all_is_as_it_was_made(mesos: Runtime, host: Host, version: str) -> None:
    _, made = mesos.call("ADD", cniVersion=version)
    assert mesos.call("CHECK", cniVersion=version, prevResult=made) == (0, None)
    other = {**made, "ips": [{"address": "9.0.0.9/25"}]}
    status, error = mesos.call("CHECK", cniVersion=version, prevResult=other)
    assert (status, error["code"]) == (1, 100)
    assert error["msg"] == "container c1 has 9.0.0.2/25, and prevResult tells of 9.0.0.9/25"
    _, error = mesos.call("CHECK", cniVersion=version, prevResult=made, CNI_NETNS="/run/netns/other")
    assert error["msg"] == "container c1 is in /run/netns/c1, not in /run/netns/other"
    host.kernel.links.clear()
    _, error = mesos.call("CHECK", cniVersion=version, prevResult=made)
    assert (error["code"], error["cniVersion"]) == (100, version)
    assert "is missing" in error["msg"]


def test_version_needs_neither_agent_nor_configuration(runtime: Runtime) -> None:
    told = {"cniVersion": "1.0.0", "supportedVersions": VERSIONS}
    for text in (b"", b'{"cniVersion": "0.4.0"}', b"\xff"):
        assert runtime.call("VERSION", text) == (0, told)


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


ANY = st.sampled_from("\ud800\x00\n/.-\u00e9") | st.characters(exclude_categories=())
"""Every character, and often those that cannot be printed, sent, or stand in a path."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(ANY) | st.just("9.0.0.9"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("cniVersion", "name", "overlay", "args", "prevResult", "ipam")
INFO_KEYS = ("ip_addresses", "groups", "labels", "name")
VARIABLES = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS")


@st.composite
def inputs(draw: st.DrawFn) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Draw a call that is right but for some places, with anything there."""
    command = draw(st.sampled_from(["ADD", "DEL", "CHECK"]))
    more: dict[str, Any] = {"cniVersion": draw(st.sampled_from(VERSIONS[4:])), "prevResult": {"ips": draw(JSON)}}
    more["args"] = {"org.apache.mesos": {"network_info": draw(st.dictionaries(st.sampled_from(INFO_KEYS), JSON))}}
    wrong = st.dictionaries(st.sampled_from(KEYS), JSON | st.text(ANY, min_size=1, max_size=2), max_size=2)
    variables = st.dictionaries(st.sampled_from(VARIABLES), st.text(ANY), max_size=1)
    return command, {**more, **draw(wrong)}, draw(variables)


def test_no_input_is_unexpected(mesos: Runtime, host: Host) -> None:
    """Whatever it is called with, it does that, or says with a code of CNI what is wrong with the call."""

    @settings(deadline=None, max_examples=300)
    @given(inputs())
    def called(call: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
        command, more, variables = call
        environment = {**mesos.environment, "CNI_COMMAND": command, **variables}
        status, answer = respond(environment, json.dumps({**mesos.configuration, **more}).encode())
        if status:
            assert answer is not None
            assert not answer["msg"].startswith("unexpected")
            assert answer["code"] in {1, 2, 3, 4, 6, 7, 100, 101}

    called()
    assert host.problems() == []


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_are_unexpected(text: bytes) -> None:
    status, answer = respond({"CNI_COMMAND": "ADD"}, text)
    assert status == 1
    assert answer is not None
    assert answer["code"] in {1, 4, 6, 7}


def test_check_without_what_add_answered_is_invalid(runtime: Runtime) -> None:
    status, error = runtime.call("CHECK", cniVersion="1.0.0")
    assert (status, error["code"]) == (1, 7)
    assert error["msg"] == "'prevResult' in the network configuration must be an object, not missing"


def network_info(*addresses: dict[str, str], groups: tuple[str, ...] = (), **labels: str) -> dict[str, Any]:
    """Answer what Mesos sends beside the configuration; `_` stands for the dot after `dni` in a label."""
    told = [{"key": key.replace("_", ".", 1), "value": value} for key, value in labels.items()]
    info = {
        "name": "dcos",
        "ip_addresses": list(addresses),
        "groups": list(groups),
        "labels": {"labels": [{"key": "a", "value": "b"}, {"key": "bare"}, *told]},
        "port_mappings": [{"host_port": 1, "container_port": 2}],
    }
    return {"org.apache.mesos": {"network_info": info}}


def test_the_address_that_mesos_asks_for_is_given(mesos: Runtime) -> None:
    asked = network_info({"protocol": "IPv4", "ip_address": "9.0.0.55"})
    _, answer = mesos.call("ADD", args=asked)
    assert answer["ip4"]["ip"] == "9.0.0.55/25"
    status, error = mesos.call("ADD", args=asked, CNI_CONTAINERID="c2")
    assert (status, error["code"]) == (1, 101)
    assert error["msg"].startswith("address 9.0.0.55 is in use by container c1")


def test_groups_and_labels_of_mesos_are_taken_or_told(mesos: Runtime, host: Host) -> None:
    asked = network_info(groups=("web", "public"), dni_egress="10mbit", dni_ingress="none", dni_groups="db,web")
    status, _ = mesos.call("ADD", args=asked)
    assert status == 0
    (report,) = address_reports(host.records(), None, with_free=False)
    assert (report.container, report.groups) == ("c1", ("db", "web", "public"))
    assert (report.egress, report.ingress) == (10_000_000, None)
    (link,) = host.kernel.links.values()
    assert link.limits == Limits(egress=10_000_000)
    for wrong, text in (
        (network_info(groups=("a b",)), "'a b' is no name of a group: use 1 to 63 letters"),
        (network_info(dni_groups="a,,b"), "'' is no name of a group"),
        (network_info(dni_egress="fast"), "option egress='fast' is not a rate from 256kbit to 32gbit"),
        (
            network_info(dni_spoof="allow"),
            "label 'dni.spoof' is not known to dni: use dni.egress, dni.ingress, dni.groups",
        ),
        (network_info(dni_address="9.0.0.9"), "label dni.address comes too late, .*ip_addresses in NetworkInfo"),
    ):
        status, error = mesos.call("ADD", args=wrong, CNI_CONTAINERID="c2")
        assert (status, error["code"]) == (1, 7)
        assert re.search(text, error["msg"])
    assert host.held() == {"9.0.0.2": "c1"}


def test_a_family_alone_asks_for_no_address(mesos: Runtime) -> None:
    _, answer = mesos.call("ADD", args=network_info({"protocol": "IPv4"}))
    assert answer["ip4"]["ip"] == "9.0.0.2/25"


def test_the_address_in_cni_args_is_given(mesos: Runtime) -> None:
    _, answer = mesos.call("ADD", CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=a;IP=9.0.0.66")
    assert answer["ip4"]["ip"] == "9.0.0.66/25"


def test_an_overlay_can_have_another_name_than_the_network(mesos: Runtime) -> None:
    _, answer = mesos.call("ADD", name="something", overlay="dcos")
    assert answer["ip4"]["ip"] == "9.0.0.2/25"


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


def test_a_full_half_is_told(mesos: Runtime, host: Host) -> None:
    for number in range(125):
        host.attach(f"container-{number}")
    status, error = mesos.call("ADD")
    assert (status, error["code"]) == (1, 11)
    assert "the agent has leased no more yet" in error["msg"]
    with host.store.write() as tx:
        room.set_reason(tx, "dcos", 4, "the overlay is full")
    status, error = mesos.call("ADD")
    assert (status, error["code"]) == (1, 101)
    assert "125 of 125 used" in error["msg"]


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


def program(runtime: Runtime, command: str, text: bytes | None = None) -> tuple[int, str, str]:
    """Run the plugin as a process; answer status, standard output and standard error."""
    configuration = json.dumps(runtime.configuration).encode() if text is None else text
    environment = {**os.environ, **runtime.environment, "CNI_COMMAND": command}
    done = subprocess.run(PROGRAM, input=configuration, env=environment, capture_output=True, check=False, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_as_a_process_it_writes_one_object_and_nothing_else(mesos: Runtime, host: Host) -> None:
    status, output, complaint = program(mesos, "ADD")
    assert (status, complaint) == (0, "")
    assert json.loads(output)["ip4"]["ip"] == "9.0.0.2/25"
    status, output, complaint = program(mesos, "ADD", b"{")
    assert (status, complaint) == (1, "")
    assert json.loads(output)["code"] == 6
    assert program(mesos, "DEL") == (0, "", "")
    assert host.held() == {}


def test_it_imports_nothing_that_starts_slowly() -> None:
    """A container waits for it: no package but Python's own, and none of those that take long."""
    script = "import sys; import dni_driver.mesos.cni_plugin; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout
    imported = {name.partition(".")[0] for name in output.split()}
    slow = {"asyncio", "click", "dataclasses", "email", "flask", "http", "inspect", "ipaddress", "msgspec", "pathlib"}
    slow |= {"pyroute2", "sqlite3", "ssl", "structlog", "subprocess", "typing_extensions", "urllib", "uuid"}
    bare = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, check=True)
    assert imported & slow <= {name.partition(".")[0] for name in bare.stdout.decode().split()}


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
