# SPDX-License-Identifier: Apache-2.0
"""What the operator API does not take or cannot do is told in words, as JSON, with a status that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dni_driver.console.app import LARGEST_BODY
from dni_driver.console.client import Console
from dni_driver.core.errors import (
    DeadlineExceeded,
    DniError,
    Exhausted,
    InUse,
    KernelError,
    NotFound,
    Refused,
    Unavailable,
)
from tests.contract.operations import _Operations, ask, console, operations, path

__all__ = ["console", "operations", "path"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {"name": "dev", "subnet": "10.64.0.0/33"},
            "subnet '10.64.0.0/33' cannot be used: .*; write it like 10.64.0.0/16",
        ),
        ({"name": "dev", "subnet": "10.64.0.1/16"}, "10.64.0.1/16 has host bits set"),
        ({"name": "dev", "subnet": "fd01:d::/64"}, "subnet 'fd01:d::/64' is of the other family: use --subnet6"),
        ({"name": "dev", "subnet6": "10.64.0.0/16"}, "subnet6 '10.64.0.0/16' is of the other family: use --subnet"),
        ({"name": "dev", "subnet6": "fd01:d::/640"}, "write it like fd01:d::/64"),
        (
            {"name": "dev", "subnet": "10.64.0.0/16", "prefix6": 80},
            "of 80 needs a subnet beside it, such as --subnet6 fd01:d::/64",
        ),
        ({"name": "dev", "subnet": "10.64.0.0/16", "prefix": 30}, "its prefix must be 16 to 29"),
        ({"name": "dev"}, "overlay 'dev' needs a subnet"),
        ({"name": "a.b", "subnet": "10.64.0.0/16"}, "'a.b' has a dot"),
        ({"subnet": "10.64.0.0/16"}, "missing required field `name`.*allowed: name, subnet, prefix, subnet6"),
        ({"name": "dev", "subnett": "10.64.0.0/16"}, "unknown field `subnett`"),
        ({"name": "dev", "subnet": "10.64.0.0/16", "prefix": "24"}, r"Expected `int \| null`, got `str`"),
        ({"name": "dev", "subnet": "10.64.0.0/16", "backend": "gre"}, "Invalid enum value 'gre'"),
    ],
)
def test_a_body_that_makes_no_overlay_is_refused_in_words(
    console: Console, operations: _Operations, body: dict[str, Any], text: str
) -> None:
    with pytest.raises(Refused, match=text):
        console.post("/v1/overlays", body)
    assert operations.asked == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"address": "web", "egress": "10mbit"}, "'web' is not an IP address"),
        ({"address": "9.0.0.130", "egress": "much"}, "option egress='much' is not a rate"),
        ({"address": "9.0.0.130"}, "nothing is to be changed"),
        ({"egress": "10mbit"}, "missing required field `address`"),
    ],
)
def test_a_body_that_makes_no_limits_is_refused_in_words(
    console: Console, operations: _Operations, body: dict[str, Any], text: str
) -> None:
    with pytest.raises(Refused, match=text):
        console.post("/v1/limits", body)
    assert operations.asked == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"overlay": "dcos"}, "nothing is named: give an address"),
        ({"overlay": "dcos", "addresses": "web"}, "'web' is not understood"),
        ({"overlay": "dcos", "container": "-"}, "is no container name"),
        ({"overlay": "dcos", "container": "web", "family": 5}, "Invalid enum value 5"),
        ({"addresses": "9.0.0.140"}, "missing required field `overlay`"),
        ({"overlay": "dcos", "name": "web"}, "allowed: overlay, addresses, container, family"),
    ],
)
def test_a_body_that_makes_no_reservation_is_refused_in_words(
    console: Console, operations: _Operations, body: dict[str, Any], text: str
) -> None:
    with pytest.raises(Refused, match=text):
        console.post("/v1/reservations", body)
    assert operations.asked == []


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("/v1/addresses?overlays=dcos", "'overlays' is not known: use overlay, all"),
        ("/v1/addresses?all=yes", "all='yes' is neither 0 nor 1"),
    ],
)
def test_a_query_that_is_not_understood_is_refused(console: Console, target: str, text: str) -> None:
    with pytest.raises(Refused, match=text):
        console.get(target)


@pytest.mark.parametrize(
    ("error", "status", "raised"),
    [
        (NotFound("no overlay 'x'"), 404, NotFound),
        (InUse("overlay 'x' is in use"), 409, InUse),
        (Exhausted("overlay 'x' is full"), 409, InUse),
        (Refused("no"), 400, Refused),
        (Unavailable("no registry"), 503, Unavailable),
        (DeadlineExceeded("ran out of time"), 503, Unavailable),
        (KernelError("nft said no"), 500, DniError),
    ],
)
def test_an_error_keeps_its_kind_and_its_words(
    console: Console,
    operations: _Operations,
    path: Path,
    error: DniError,
    status: int,
    raised: type[DniError],
) -> None:
    operations.error = error
    assert ask(path, "GET", "/v1/status") == (status, "application/json", {"error": str(error)})
    with pytest.raises(raised) as caught:
        console.get("/v1/status")
    assert type(caught.value) is raised
    assert str(caught.value) == str(error)


def test_what_nobody_foresaw_is_json_too_and_shows_no_inner_parts(operations: _Operations, path: Path) -> None:
    operations.error = ZeroDivisionError("secret")
    status, kind, answer = ask(path, "GET", "/v1/status")
    assert (status, kind) == (500, "application/json")
    assert answer == {"error": "dni failed unexpectedly (ZeroDivisionError): the log of the agent says more"}


@pytest.mark.parametrize(
    ("method", "target", "status", "text"),
    [
        ("GET", "/", 404, "there is nothing at '/'"),
        ("GET", "/v1/overlays/dcos", 405, "GET is not possible at '/v1/overlays/dcos'"),
        ("DELETE", "/v1/status", 405, "DELETE is not possible at '/v1/status'"),
        ("OPTIONS", "/v1/status", 405, "OPTIONS is not possible at '/v1/status'"),
    ],
)
@pytest.mark.usefixtures("operations")
def test_a_path_or_method_that_is_not_there_is_answered_in_json(
    path: Path, method: str, target: str, status: int, text: str
) -> None:
    assert ask(path, method, target) == (status, "application/json", {"error": text})


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'"x"', b"\xff", b'{"name": 7}', b'{"name": "\xff"}'])
def test_a_body_that_is_no_overlay_is_answered_400(path: Path, operations: _Operations, body: bytes) -> None:
    status, kind, answer = ask(path, "POST", "/v1/overlays", body)
    assert (status, kind) == (400, "application/json")
    assert "the request body is not understood" in answer["error"]
    assert operations.asked == []


@pytest.mark.usefixtures("operations")
def test_a_body_without_end_is_answered_413(path: Path) -> None:
    status, _, answer = ask(path, "POST", "/v1/overlays", b"x" * (LARGEST_BODY + 1))
    assert status == 413
    assert answer == {"error": f"the request is longer than {LARGEST_BODY} bytes"}
