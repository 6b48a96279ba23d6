# SPDX-License-Identifier: Apache-2.0
"""Rubbish for every method: an error in JSON, one line, both dialects, and the store as it was.

Each request goes over the real socket; the same kinds go, in larger numbers, straight to the app.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dni_driver.plugin.app import LARGEST_BODY, LONGEST_TEXT, create_app, methods
from dni_driver.plugin.ipam_driver import IpamDriver
from dni_driver.plugin.network_driver import NetworkDriver
from dni_driver.store import Store
from tests.contract.dockerd import BODILESS, Reply, exchange, request_bytes
from tests.contract.plugin import Plugin, Rows, rows_of
from tests.fakes import DCOS, FakeKernel, lease

TEXT, TEXTS, ANY, LIST, NUMBER, TRUTH = "text", "texts", "any", "list", "number", "truth"

ENDPOINT = {"NetworkID": TEXT, "EndpointID": TEXT}
FIELDS: Mapping[str, Mapping[str, str]] = {
    "NetworkDriver.AllocateNetwork": {"NetworkID": TEXT, "Options": TEXTS, "IPv4Data": LIST, "IPv6Data": LIST},
    "NetworkDriver.FreeNetwork": {"NetworkID": TEXT},
    "NetworkDriver.GwAllocCheck": {"Options": TEXTS},
    "NetworkDriver.CreateNetwork": {"NetworkID": TEXT, "Options": TEXTS, "IPv4Data": LIST, "IPv6Data": LIST},
    "NetworkDriver.DeleteNetwork": {"NetworkID": TEXT},
    "NetworkDriver.CreateEndpoint": {**ENDPOINT, "Interface": TEXTS, "Options": TEXTS},
    "NetworkDriver.DeleteEndpoint": ENDPOINT,
    "NetworkDriver.EndpointOperInfo": ENDPOINT,
    "NetworkDriver.Join": {**ENDPOINT, "SandboxKey": TEXT, "Options": TEXTS},
    "NetworkDriver.Leave": ENDPOINT,
    "NetworkDriver.ProgramExternalConnectivity": {**ENDPOINT, "Options": TEXTS},
    "NetworkDriver.RevokeExternalConnectivity": ENDPOINT,
    "NetworkDriver.DiscoverNew": {"DiscoveryType": NUMBER, "DiscoveryData": ANY},
    "NetworkDriver.DiscoverDelete": {"DiscoveryType": NUMBER, "DiscoveryData": ANY},
    "IpamDriver.RequestPool": {"AddressSpace": TEXT, "Pool": TEXT, "SubPool": TEXT, "Options": TEXTS, "V6": TRUTH},
    "IpamDriver.ReleasePool": {"PoolID": TEXT},
    "IpamDriver.RequestAddress": {"PoolID": TEXT, "Address": TEXT, "Options": TEXTS},
    "IpamDriver.ReleaseAddress": {"PoolID": TEXT, "Address": TEXT},
}
"""Every method that has a body, with its fields."""

OVER_THE_SOCKET, IN_PROCESS = 8, 25
"""Examples for each method and kind of rubbish."""


NETWORK, CONTAINER, SANDBOX = "a" * 64, "b" * 64, "/var/run/docker/netns/1"
"""What there is when rubbish comes."""


@dataclass(frozen=True)
class Target:
    """Something that takes requests, and the store behind it."""

    send: Callable[[str, bytes, str], Reply]
    rows: Callable[[], Rows]


@pytest.fixture(scope="module")
def socket(_in_memory: Plugin) -> Iterator[Target]:
    """Give the running plugin, in use: a network, a container, a plain pool. No test here changes that."""
    plugin = _in_memory
    plugin.reset()
    before = len(plugin.log())
    occupied(lambda method, arguments: plugin.dockerd().call(method, arguments))
    yield Target(
        lambda method, body, verb: exchange(plugin.socket, request_bytes(method, body, verb=verb), verb), plugin.rows
    )
    assert "Traceback" not in plugin.log()[before:]
    plugin.reset()


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Give the app without a server, in use as well."""
    store, kernel = Store(tmp_path_factory.mktemp("app") / "dni.db"), FakeKernel()
    lease(store, DCOS, "9.0.0.0/24")
    nobody: Any = None
    app = create_app(NetworkDriver(store, kernel), IpamDriver(store, kernel, nobody, "dcos"))

    def send(method: str, body: bytes, verb: str = "POST") -> Reply:
        reply = app.test_client().open(f"/{method}", method=verb, data=body)
        return Reply(reply.status_code, reply.content_type, "", reply.data)

    occupied(lambda method, arguments: json.loads(send(method, json.dumps(arguments).encode()).body))
    with structlog.testing.capture_logs():
        yield Target(send, lambda: rows_of(store))
    store.close()


def occupied(call: Callable[[str, Mapping[str, Any]], Any]) -> None:
    """Put something in the store that rubbish could harm."""
    call("IpamDriver.RequestPool", {})
    data = [{"Pool": "9.0.0.128/25", "Gateway": "9.0.0.129/25"}]
    call("NetworkDriver.CreateNetwork", {"NetworkID": NETWORK, "Options": {}, "IPv4Data": data})
    address = call("IpamDriver.RequestAddress", {"PoolID": "dcos/v4"})["Address"]
    both = {"NetworkID": NETWORK, "EndpointID": CONTAINER}
    call("NetworkDriver.CreateEndpoint", {**both, "Interface": {"Address": address}})
    call("NetworkDriver.Join", {**both, "SandboxKey": SANDBOX})
    call("IpamDriver.RequestPool", {"Pool": "172.20.0.0/24"})


# -- what rubbish is made of

texts = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["\0", "a\0b", "\n", "\u2028", "\x1b[31m", "../../etc", "'; DROP TABLE address; --", "%s%n", "١٢٣", "x" * 9000]
)
leaves: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=6
)

RIGHT: Mapping[str, tuple[type, ...]] = {
    TEXT: (str,),
    TEXTS: (dict, type(None)),
    LIST: (list, type(None)),
    NUMBER: (int,),
    TRUTH: (bool,),
}


def is_right(value: object, kind: str) -> bool:
    """Tell whether a value has the type of a field."""
    return kind == ANY or (isinstance(value, RIGHT[kind]) and not (kind == NUMBER and isinstance(value, bool)))


def plausible(kind: str) -> st.SearchStrategy[Any]:
    """Draw a value of the right type, and hardly ever of any meaning."""
    by_kind = {
        TEXT: texts | st.sampled_from([NETWORK, CONTAINER, "f" * 64, "dcos/v4", SANDBOX]),
        TEXTS: st.none() | st.dictionaries(texts, texts, max_size=3),
        LIST: st.none() | st.lists(values, max_size=3),
        NUMBER: st.integers(),
        TRUTH: st.booleans(),
        ANY: values,
    }
    return by_kind[kind]


@st.composite
def wrong_type(draw: st.DrawFn, method: str) -> bytes:
    """Draw a request with one field, at the least, of a wrong type."""
    fields = [field for field, kind in FIELDS[method].items() if kind != ANY]
    request = {field: draw(plausible(kind)) for field, kind in FIELDS[method].items()}
    spoilt = draw(st.sampled_from(fields))
    request[spoilt] = draw(values.filter(lambda value: not is_right(value, FIELDS[method][spoilt])))
    return json.dumps(request).encode()


DEFUSED: Mapping[str, Mapping[str, st.SearchStrategy[str]]] = {
    "NetworkDriver.DeleteNetwork": {"NetworkID": texts},
    "NetworkDriver.DeleteEndpoint": {"EndpointID": texts},
    "NetworkDriver.Leave": {"EndpointID": texts},
    "NetworkDriver.Join": {"SandboxKey": st.just(SANDBOX) | texts.filter(lambda text: text[:1] != "/")},
    "IpamDriver.RequestPool": {"Pool": texts.filter(lambda text: bool(text) and not _is_subnet(text))},
    "IpamDriver.ReleasePool": {"PoolID": texts},
    "IpamDriver.RequestAddress": {"Address": texts.filter(bool)},
}
"""Fields that make a request mean something, and what they may be so that it does not."""


@st.composite
def meaningless(draw: st.DrawFn, method: str) -> bytes:
    """Draw a request whose types are right and whose values are not."""
    request = {field: draw(plausible(kind)) for field, kind in FIELDS[method].items() if draw(st.booleans())}
    defused = draw(st.fixed_dictionaries(DEFUSED.get(method, {})))
    return json.dumps({**request, **defused}).encode()


def _is_subnet(text: str) -> bool:
    try:
        return bool(ip_network(text, strict=False))
    except ValueError:
        return False


def is_object(body: bytes) -> bool:
    """Tell whether a body is a JSON object: hypothesis draws such constants of the source as `{}`, too."""
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


no_objects = st.binary(max_size=60).filter(lambda body: not is_object(body)) | values.filter(
    lambda value: not isinstance(value, dict)
).map(lambda value: json.dumps(value).encode())

DEEP = 100_000
MALFORMED = (
    b"",
    b"\n",
    b"null",
    b"[]",
    b"{",
    b"{}{}",
    b'{"NetworkID":',
    b'{"NetworkID":NaN}',
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}",
    b"\xef\xbb\xbf{}",
    b"<html></html>",
)


SPOILT = (b"NaN", b"1e400", b"9" * 5000, b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff\xfe"', b'{"\xc3\x28":"a"}')
"""Values of fields that no decoder should take."""


# -- what must hold


def check(target: Target, method: str, body: bytes, verb: str = "POST") -> Reply:
    """Send a request and check that it was answered decently, and changed nothing."""
    before = target.rows()
    reply = target.send(method, body, verb)
    assert reply.content_type == "application/vnd.docker.plugins.v1.2+json"
    assert b"Traceback" not in reply.body
    assert b"<html" not in reply.body.lower().replace(body.lower(), b"")
    if verb != "HEAD":
        told = json.loads(reply.body)
        if reply.status != 200:
            assert set(told) == {"Err", "Error"}
            assert told["Err"] == told["Error"]
            assert 0 < len(told["Err"]) <= LONGEST_TEXT
            assert len(told["Err"].splitlines()) == 1
            assert "unexpectedly" not in told["Err"]
    assert target.rows() == before
    return reply


def test_the_methods_fuzzed_are_all_there_are(in_process: Target) -> None:
    unused: Any = FakeKernel()
    names = methods(NetworkDriver(unused, unused), IpamDriver(unused, unused, unused, "dcos"))
    assert set(names) == BODILESS | set(FIELDS)
    assert in_process.rows()["endpoint"]


@pytest.mark.parametrize("where", ["socket", "in_process"])
@pytest.mark.parametrize("method", FIELDS)
def test_what_is_no_request_at_all_is_malformed(request: pytest.FixtureRequest, method: str, where: str) -> None:
    target = request.getfixturevalue(where)
    for body in MALFORMED:
        assert check(target, method, body).status == 400


@pytest.mark.parametrize("where", ["socket", "in_process"])
@pytest.mark.parametrize("method", FIELDS)
def test_a_field_that_cannot_be_read_is_malformed(request: pytest.FixtureRequest, method: str, where: str) -> None:
    target = request.getfixturevalue(where)
    for field in FIELDS[method]:
        for value in SPOILT:
            assert check(target, method, b'{"%s":%s}' % (field.encode(), value)).status == 400


@pytest.mark.parametrize("method", sorted(BODILESS))
def test_a_method_without_a_body_takes_no_notice_of_one(socket: Target, method: str) -> None:
    for body in MALFORMED:
        assert check(socket, method, body).status == 200


def quick(examples: int) -> settings:
    """Answer settings for a number of examples on one target, which no example changes."""
    unchecked = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, suppress_health_check=unchecked)


@pytest.mark.parametrize(("where", "examples"), [("socket", OVER_THE_SOCKET), ("in_process", IN_PROCESS)])
@pytest.mark.parametrize("method", FIELDS)
def test_bytes_that_are_no_object_are_malformed(
    request: pytest.FixtureRequest, method: str, where: str, examples: int
) -> None:
    target = request.getfixturevalue(where)

    @quick(examples)
    @given(no_objects)
    def holds(body: bytes) -> None:
        assert check(target, method, body).status == 400

    holds()


@pytest.mark.parametrize(("where", "examples"), [("socket", OVER_THE_SOCKET), ("in_process", IN_PROCESS)])
@pytest.mark.parametrize("method", FIELDS)
def test_a_field_of_a_wrong_type_is_malformed(
    request: pytest.FixtureRequest, method: str, where: str, examples: int
) -> None:
    target = request.getfixturevalue(where)
    if all(kind == ANY for kind in FIELDS[method].values()):
        return

    @quick(examples)
    @given(wrong_type(method))
    def holds(body: bytes) -> None:
        assert check(target, method, body).status == 400

    holds()


@pytest.mark.parametrize(("where", "examples"), [("socket", OVER_THE_SOCKET), ("in_process", IN_PROCESS)])
@pytest.mark.parametrize("method", FIELDS)
def test_values_without_meaning_change_nothing(
    request: pytest.FixtureRequest, method: str, where: str, examples: int
) -> None:
    target = request.getfixturevalue(where)

    @quick(examples)
    @given(meaningless(method))
    def holds(body: bytes) -> None:
        check(target, method, body)

    holds()


@pytest.mark.parametrize("verb", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_every_method_wants_post(socket: Target, verb: str) -> None:
    for method in (*FIELDS, *BODILESS):
        assert check(socket, method, b"{}", verb).status == 405


def test_a_name_that_is_no_method_is_not_found(in_process: Target) -> None:
    @quick(IN_PROCESS)
    @given(st.text(string.ascii_letters + string.digits + ".%-_~!$&'()*+,;=:@ \\\"<>[]{}|^`", max_size=50))
    @example("NetworkDriver.Join/")
    @example("networkdriver.join")
    @example("x" * 5000)
    def holds(name: str) -> None:
        if name not in FIELDS.keys() | BODILESS:
            assert check(in_process, name, b"{}").status == 404

    holds()


@pytest.mark.parametrize("method", ["NetworkDriver.CreateEndpoint", "IpamDriver.RequestAddress"])
def test_a_body_without_end_is_refused(socket: Target, method: str) -> None:
    reply = check(socket, method, b'{"NetworkID":"' + b"x" * LARGEST_BODY + b'"}')
    assert reply.status == 413
    assert f"longer than {LARGEST_BODY} bytes" in json.loads(reply.body)["Err"]


@pytest.mark.parametrize("method", FIELDS)
def test_long_texts_get_short_answers(socket: Target, method: str) -> None:
    filler = "x" * (LARGEST_BODY // 16)
    request = {field: filler if kind == TEXT else {filler: filler} for field, kind in FIELDS[method].items()}
    assert check(socket, method, json.dumps(request).encode()).status != 413
