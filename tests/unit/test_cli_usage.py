# SPDX-License-Identifier: Apache-2.0
"""What people read of how full overlays are, here and on every other host."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dni_driver.cli.usage import age
from tests.unit.canned_agent import ELSEWHERE, HALF, STATUS, USAGE, Dni, _CannedAgent, agent, dni

__all__ = ["agent", "dni"]


def test_usage_is_a_line_for_each_half_with_its_age_and_what_is_not_known_below(
    dni: Dni, agent: _CannedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: 1_700_000_100.0)
    agent.answers["GET /v1/overlays/dcos/usage"] = (200, USAGE)
    title, mesos, docker, *others = dni("overlay", "usage", "dcos").out.splitlines()
    assert title.split("  ")[-1].strip() == "AS OF"
    here = ["10.0.0.1", "(this)", "9.0.0.0/24"]
    since = ["2023-11-14", "22:13:20"]
    assert mesos.split() == [*here, "Mesos", "9.0.0.0/25", "125", "-", "-", "-", *since, "now"]
    assert docker.split() == [*here, "Docker", "9.0.0.128/25", "125", "3", "1", "121", *since, "now"]
    assert [line.split()[0] for line in others[:4]] == ["10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.3"]
    assert [line.split()[-2:] for line in others[:2]] == [["-", "-"]] * 2
    counted = ["125", "3", "1", "121", *since, "12", "s", "ago"]
    assert [line.split()[-9:] for line in others[2:4]] == [counted] * 2
    assert others[4:] == [
        "",
        "Other agents are as they told last; one that lives tells of a change within seconds.",
        "",
        "/var/lib/cni cannot be read",
        "agent 10.0.0.2 has not told yet how full it is: ask there (dni overlay usage)",
    ]


def test_of_many_agents_of_whom_nothing_is_known_some_are_named_and_where_all_are(
    dni: Dni, agent: _CannedAgent
) -> None:
    agents = [
        {
            "agent": f"10.0.0.{number}",
            "here": False,
            "subnets": [
                {
                    "subnet": f"9.0.{number}.0/24",
                    "since": None,
                    "mesos": {**ELSEWHERE, "why": f"why {number}"},
                    "docker": HALF,
                }
            ],
        }
        for number in range(9)
    ]
    away = "of other agents nothing new is known: ZooKeeper is away"
    agent.answers["GET /v1/overlays/dcos/usage"] = (200, {**USAGE, "agents": agents, "problem": away})
    *_, first, second, third, fourth, fifth, _, more, _, problem = dni("overlay", "usage", "dcos").out.splitlines()
    assert [first, second, third, fourth, fifth] == [f"why {number}" for number in range(5)]
    assert more == "and 4 more such reasons: dni overlay usage dcos --json"
    assert problem == away


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3.0, "0 s ago"),
        (0.4, "0 s ago"),
        (119.0, "119 s ago"),
        (120.0, "2 min ago"),
        (7199.0, "119 min ago"),
        (7200.0, "2 h ago"),
        (172_800.0, "2 d ago"),
    ],
)
def test_an_age_is_written_in_its_largest_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


def half(name: str, level: int | None, used: int, overlay: str = "dcos") -> dict[str, Any]:
    """Answer a half of 100 addresses, as a status has it."""
    return {
        "overlay": overlay,
        "half": name,
        "family": 4,
        "size": 100,
        "used": used,
        "reserved": 0,
        "free": 100 - used,
        "percent": used,
        "level": level,
    }


def test_status_shows_halves_that_fill_up_with_their_level_and_what_mesos_has(dni: Dni, agent: _CannedAgent) -> None:
    halves = [
        half("mesos", None, 2),
        half("docker", 80, 84),
        half("mesos", 95, 97, "dev"),
        half("docker", None, 5, "dev"),
    ]
    agent.answers["GET /v1/status"] = (200, {**STATUS, "halves": [*halves, half("mesos", None, 0, "six")]})
    assert (
        "OVERLAY  HALF    FAMILY  SIZE  USED  RESERVED  FREE  FULL  LEVEL\n"
        "dcos     Mesos   IPv4     100     2         0    98  2 %   -\n"
        "dcos     Docker  IPv4     100    84         0    16  84 %  80 % reached\n"
        "dev      Mesos   IPv4     100    97         0     3  97 %  95 % reached\n"
        "\n"
    ) in dni("status").out
