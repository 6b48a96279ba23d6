# SPDX-License-Identifier: Apache-2.0
"""What people type and read of addresses: who has them, which are reserved, published ports, limits."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.unit.canned_agent import ADDRESS, KEPT, PORT, Dni, _CannedAgent, agent, dni

__all__ = ["agent", "dni"]


KEPT_RANGE = {**KEPT, "first": "9.0.0.200", "last": "9.0.0.220", "size": 21, "container": None, "docker_run": None}
PORT6 = {
    **PORT, "protocol": "udp", "host_ip": "::", "container": None, "container_ip": "fd01:b::2", "network": None
}  # fmt: skip


def test_addresses_are_shown_with_who_has_them_since_when(
    dni: Dni, agent: _CannedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    free = {**ADDRESS, "address": "9.0.0.131", "state": "free", "endpoint": None, "network": None, "container": None}
    agent.answers["GET /v1/addresses?overlay=dcos&all=1"] = (200, [ADDRESS, free])
    ran = dni("address", "ls", "--overlay", "dcos", "--all")
    assert ran.out == (
        "ADDRESS    STATE  OVERLAY  CONTAINER  ENDPOINT      NETWORK                     SINCE\n"
        "9.0.0.130  bound  dcos     web        eeeeeeeeeeee  web-network-of-a-long-name  2023-11-14 22:13:20\n"
        "9.0.0.131  free   dcos     -          -             -                           2023-11-14 22:13:20\n"
    )


def test_published_ports_are_shown_with_where_they_lead(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["GET /v1/ports"] = (200, [PORT, PORT6])
    assert dni("ports").out == (
        "HOST          CONTAINER     LEADS TO            NETWORK\n"
        "0.0.0.0:8080  web           9.0.0.130:80/tcp    dcos\n"
        "[::]:8080     eeeeeeeeeeee  [fd01:b::2]:80/udp  -\n"
    )
    agent.answers["GET /v1/ports"] = (200, [])
    assert dni("ports").out == "No port is published.\n"


def test_what_is_reserved_is_shown_with_whom_it_is_for(
    dni: Dni, agent: _CannedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    used = {**ADDRESS, "address": "9.0.0.140", "network": "dcos", "reserved": True, "reserved_for": "web"}
    idle = {**used, "address": "9.0.0.141", "state": "reserved", "endpoint": None, "network": None, "container": "db"}
    held = {**idle, "address": "9.0.0.200", "last": "9.0.0.220", "container": None, "reserved_for": None}
    agent.answers["GET /v1/addresses"] = (200, [used, idle, held])
    assert dni("address", "ls").out == (
        "ADDRESS              STATE            OVERLAY  CONTAINER  ENDPOINT      NETWORK  SINCE\n"
        "9.0.0.140            bound, reserved  dcos     web        eeeeeeeeeeee  dcos     2023-11-14 22:13:20\n"
        "9.0.0.141            reserved         dcos     db         -             -        2023-11-14 22:13:20\n"
        "9.0.0.200-9.0.0.220  reserved         dcos     -          -             -        2023-11-14 22:13:20\n"
    )


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["dcos", "9.0.0.140", "--for", "web"], {"addresses": "9.0.0.140", "container": "web"}),
        (["dcos", "--for", "web", "--ipv6"], {"container": "web", "family": 6}),
        (["dcos", "9.0.0.200-9.0.0.220"], {"addresses": "9.0.0.200-9.0.0.220"}),
    ],
)
def test_a_reservation_is_asked_for_as_it_was_typed(
    dni: Dni, agent: _CannedAgent, words: list[str], body: dict[str, Any]
) -> None:
    agent.answers["POST /v1/reservations"] = (201, KEPT)
    assert dni("address", "reserve", *words).status == 0
    assert agent.asked == [("POST /v1/reservations", {"overlay": "dcos", **body})]


@pytest.mark.parametrize(
    ("kept", "shown", "bare"),
    [
        (
            KEPT,
            (
                "9.0.0.140 of overlay dcos is reserved for container web.\n"
                "On any Docker Engine, where the network was created with --subnet: "
                "docker run --name web --net dcos --ip 9.0.0.140 …\n"
            ),
            "9.0.0.140\n",
        ),
        (
            {**KEPT, "docker_run": None},
            "9.0.0.140 of overlay dcos is reserved for container web.\n",
            "9.0.0.140\n",
        ),
        (KEPT_RANGE, "9.0.0.200-9.0.0.220 of overlay dcos is held back (21 addresses).\n", "9.0.0.200-9.0.0.220\n"),
    ],
)
def test_a_reservation_is_shown_in_words_or_bare_for_another_command(
    dni: Dni, agent: _CannedAgent, kept: dict[str, Any], shown: str, bare: str
) -> None:
    agent.answers["POST /v1/reservations"] = (201, kept)
    assert dni("address", "reserve", "dcos", "--for", "web").out == shown
    assert dni("address", "reserve", "dcos", "--for", "web", "-q").out == bare


def test_what_is_given_up_is_shown(dni: Dni, agent: _CannedAgent) -> None:
    asked = "DELETE /v1/reservations?overlay=dcos&addresses=9.0.0.200-9.0.0.220"
    agent.answers[asked] = (200, [KEPT_RANGE])
    assert dni("address", "release", "dcos", "9.0.0.200-9.0.0.220").out == "9.0.0.200-9.0.0.220\n"


def test_a_changed_limit_is_asked_for_as_it_is_given_and_shown(dni: Dni, agent: _CannedAgent) -> None:
    agent.answers["POST /v1/limits"] = (200, {**ADDRESS, "egress": 10_000_000, "ingress": None})
    ran = dni("address", "limit", "9.0.0.130", "--egress", "10mbit")
    assert agent.asked == [("POST /v1/limits", {"address": "9.0.0.130", "egress": "10mbit"})]
    title, row = ran.out.splitlines()
    assert (title.split()[-2:], row.split()[-2:]) == (["EGRESS", "INGRESS"], ["10mbit", "-"])
