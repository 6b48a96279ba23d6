# SPDX-License-Identifier: Apache-2.0
"""The operator API over its real socket: what it answers, and what its client makes of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from dni_driver.console.app import create_app
from dni_driver.console.client import Console
from dni_driver.core.addresses.reservations import Wish, read_wish
from dni_driver.core.cluster import AgentReport
from dni_driver.core.errors import Refused
from tests.contract.operations import DCOS, OTHER_AGENT, _Operations, ask, console, operations, path

__all__ = ["console", "operations", "path"]


def test_status_is_answered_whole(console: Console) -> None:
    status = console.get("/v1/status")
    parts = {"version", "agent", "registry", "docker", "store", "overlays", "problems", "cluster", "halves"}
    assert set(status) == parts
    assert status["docker"] == {"reachable": False, "version": None, "error": "dockerd does not answer"}
    assert status["overlays"] == console.get("/v1/overlays")


def test_an_overlay_is_answered_whole_with_numbers_beyond_64_bits(console: Console) -> None:
    (overlay,) = console.get("/v1/overlays")
    assert overlay == {
        "name": "dcos",
        "subnet": "9.0.0.0/8",
        "prefix": 24,
        "subnet6": "fd01:b::/48",
        "prefix6": 56,
        "backend": "vxlan",
        "agent_subnets": ["9.0.0.0/24"],
        "docker_halves": ["9.0.0.128/25"],
        "mesos_halves": ["9.0.0.0/25"],
        "network": {"id": "d" * 64, "name": "dcos"},
        "create": None,
        "usage": {
            "v4": {"size": 125, "used": 2, "reserved": 1, "free": 122},
            "v6": {"size": 2**71 - 2, "used": 0, "reserved": 0, "free": 2**71 - 2},
        },
        "local_subnet": None,
        "agents": 0,
        "hindrance": None,
        "leaving": None,
    }


def test_a_new_overlay_is_defined_from_its_body(console: Console, operations: _Operations) -> None:
    body = {"name": "dev", "subnet": "10.64.0.0/16", "prefix": 26, "subnet6": "fd01:d::/64", "backend": "auto"}
    assert console.post("/v1/overlays", body)["name"] == "dcos"
    ((_, overlay),) = operations.asked
    assert (str(overlay.subnet), overlay.prefix, str(overlay.subnet6), overlay.prefix6, overlay.backend) == (
        "10.64.0.0/16",
        26,
        "fd01:d::/64",
        80,
        "auto",
    )


def test_an_overlay_for_a_network_being_created_is_tried_out(console: Console, operations: _Operations) -> None:
    console.post("/v1/overlays", {"name": "dev", "subnet": "10.64.0.0/16", "trial": True})
    assert [asked for asked, *_ in operations.asked] == ["overlays", "try"]


def test_an_overlay_can_be_defined_without_a_network(console: Console, operations: _Operations) -> None:
    console.post("/v1/overlays", {"name": "dev", "subnet": "10.64.0.0/16", "network": False})
    assert [asked for asked, *_ in operations.asked] == ["overlays", "define without network"]


def test_an_overlay_that_is_there_keeps_its_backend_where_none_is_named(
    console: Console, operations: _Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = msgspec.structs.replace(DCOS, backend="direct")
    monkeypatch.setattr(operations, "overlays", lambda: [direct])
    for body in ({"name": "dcos"}, {"name": "dcos", "backend": "auto"}, {"name": "dev"}):
        console.post("/v1/overlays", {"subnet": "9.0.0.0/8", **body})
    assert [overlay.backend for _, overlay in operations.asked] == ["direct", "auto", "vxlan"]


def test_what_leaves_the_agent_names_the_driver_as_users_type_it() -> None:
    operations = _Operations()
    operations.error = Refused("use `docker network create -d dni --ipam-driver dni NAME`")
    client = create_app(operations, "dni:latest").test_client()
    assert client.get("/v1/status").get_json() == {
        "error": "use `docker network create -d dni:latest --ipam-driver dni:latest NAME`"
    }


def test_making_an_overlay_answers_201(path: Path, operations: _Operations) -> None:
    status, kind, _ = ask(path, "POST", "/v1/overlays", b'{"name": "dev", "subnet": "10.64.0.0/16"}')
    assert (status, kind) == (201, "application/json")
    assert [asked for asked, *_ in operations.asked] == ["overlays", "define"]


def test_the_backend_of_an_overlay_is_changed(console: Console, operations: _Operations) -> None:
    assert console.patch("/v1/overlays/dcos", {"backend": "direct"})["backend"] == "direct"
    with pytest.raises(Refused, match="Invalid enum value 'gre'"):
        console.patch("/v1/overlays/dcos", {"backend": "gre"})
    assert operations.asked == [("set", "dcos", "direct")]


def test_the_removal_of_an_overlay_is_called_off(console: Console, operations: _Operations) -> None:
    assert console.post("/v1/overlays/my%20net/keep", {}) == {}
    assert operations.asked == [("keep", "my net")]


def test_agents_are_listed_and_forgotten(console: Console, operations: _Operations) -> None:
    assert msgspec.convert(console.get("/v1/agents"), list[AgentReport]) == [OTHER_AGENT]
    assert console.delete("/v1/agents/192.0.2.2") == {}
    assert console.delete("/v1/agents/FD00%3A%3A0%3A12") == {}
    with pytest.raises(Refused, match="'web' is no agent IP: `dni agent ls` lists them"):
        console.delete("/v1/agents/web")
    assert operations.asked == [("agents",), ("forget", "192.0.2.2"), ("forget", "fd00::12")]


def test_an_overlay_is_removed_by_name(console: Console, operations: _Operations) -> None:
    assert console.delete("/v1/overlays/my%20net") == {}
    assert operations.asked == [("remove", "my net")]


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("/v1/addresses", ("addresses", None, False)),
        ("/v1/addresses?all=1", ("addresses", None, True)),
        ("/v1/addresses?overlay=dcos&all=0", ("addresses", "dcos", False)),
    ],
)
def test_addresses_are_chosen_by_the_query(
    console: Console, operations: _Operations, target: str, asked: tuple[Any, ...]
) -> None:
    (address,) = console.get(target)
    assert address["address"] == "9.0.0.130"
    assert address["since"] == 1700000000.5
    assert operations.asked == [asked]


def test_published_ports_are_listed(console: Console, operations: _Operations) -> None:
    (port,) = console.get("/v1/ports")
    assert (port["host_port"], port["container"], port["container_port"]) == (8080, "web", 80)
    assert operations.asked == [("ports",)]


def test_limits_are_changed_from_the_body(console: Console, operations: _Operations) -> None:
    body = {"address": "9.0.0.130", "egress": "1.5gbit", "ingress": "none"}
    assert console.post("/v1/limits", body)["address"] == "9.0.0.130"
    console.post("/v1/limits", {"address": "9.0.0.130", "ingress": "10mbit"})
    assert operations.asked == [
        ("limit", "9.0.0.130", {"egress": 1_500_000_000, "ingress": 0}),
        ("limit", "9.0.0.130", {"ingress": 10_000_000}),
    ]


@pytest.mark.parametrize(
    ("body", "wish"),
    [
        ({"overlay": "dcos", "addresses": "9.0.0.140", "container": "web"}, read_wish("dcos", "9.0.0.140", "web")),
        ({"overlay": "dcos", "container": "web", "family": 6}, read_wish("dcos", container="web", family=6)),
        ({"overlay": "dcos", "addresses": "9.0.0.192/28"}, read_wish("dcos", "9.0.0.192-9.0.0.207")),
    ],
)
def test_a_reservation_is_made_from_its_body(
    console: Console, operations: _Operations, body: dict[str, Any], wish: Wish
) -> None:
    assert console.post("/v1/reservations", body)["first"] == "9.0.0.140"
    assert operations.asked == [("reserve", wish)]


@pytest.mark.parametrize(
    ("query", "wish"),
    [
        ("overlay=dcos&addresses=9.0.0.192%2F28", read_wish("dcos", "9.0.0.192/28")),
        ("overlay=dcos&container=web", read_wish("dcos", container="web")),
    ],
)
def test_a_reservation_is_given_up_by_the_query(
    console: Console, operations: _Operations, query: str, wish: Wish
) -> None:
    (given_up,) = console.delete(f"/v1/reservations?{query}")
    assert given_up["container"] == "web"
    assert operations.asked == [("release", wish)]


def test_check_and_repair_answer_what_was_found_and_done(console: Console) -> None:
    finding = {"about": "d-dcos", "problem": "is missing", "mend": "dni repair"}
    assert console.post("/v1/check", {}) == {"findings": [finding]}
    assert console.post("/v1/repair", {}) == {
        "changed": ["made bridge d-dcos"],
        "freed": ["address 9.0.0.140: ..."],
        "findings": [finding],
    }


def test_an_order_takes_no_words(console: Console, operations: _Operations) -> None:
    with pytest.raises(Refused, match="unknown field `force`; allowed: nothing"):
        console.post("/v1/repair", {"force": True})
    assert operations.asked == []
